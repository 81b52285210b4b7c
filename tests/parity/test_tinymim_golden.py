"""TinyMIM's relations equal the official code, gradients included."""

import torch

from mimseg.checkpoints.families import TINYMIM
from mimseg.registry import MODELS

from golden import RAW, Case, arch, gradients, needs_golden  # isort: skip

pytestmark = needs_golden


def build(case, relations):
    h = case.h
    common = dict(type="mimseg.ViT", img_size=h["img_size"], patch_size=h["patch_size"])
    common |= dict(norm_eps=h["layer_norm_eps"])
    s, t = h["student"], h["teacher"]
    cfg = dict(
        type="mimseg.MaskedImageModeling",
        backbone=dict(
            **common,
            arch=arch(s),
            last_block_heads=s["last_heads"],
            drop_path_rate=s["drop_path"],
            drop_path_schedule="constant",
        ),
        teacher=dict(
            type="mimseg.ViTTeacher", init="random", backbone=dict(**common, arch=arch(t)), **RAW
        ),
        normalization=dict(type="mimseg.NoNormalization", layers=()),
        head=dict(
            type="mimseg.RelationHead",
            relations=relations,
            teacher_layer=t["intermediate_1based"] - 1,
        ),
        loss=dict(type="mimseg.RelationKLLoss"),
        positions="all",
        with_cls=True,
        **RAW,
    )
    model = MODELS.build(cfg)
    model.load_state_dict(TINYMIM.to_ours(case.part("state/student/")), strict=True)
    teacher = TINYMIM.to_ours(case.part("state/teacher/"))
    teacher = {k.removeprefix("backbone."): v for k, v in teacher.items()}
    model.bank["teacher"].backbone.load_state_dict(teacher, strict=True)
    return model.eval()


def test_tinymim():
    case = Case("tinymim")
    views = {"student": case["in/image_student"], "teacher": case["in/image_teacher"]}
    model = build(case, ("qk", "vv"))
    loss = model.loss(views)["loss"]
    case.close(loss, "out/loss")
    loss.backward()
    found = gradients(model, TINYMIM)
    for key in [k for k in case.tensors if k.startswith("out/grad/")]:
        case.close(found[key.removeprefix("out/grad/")], key)
    never = TINYMIM.to_theirs({k: p for k, p in model.named_parameters() if p.grad is None})
    assert set(never) == set(case.case["lists"]["student_params_without_grad"])

    for relation in ("qk", "vv"):
        single = build(case, (relation,))
        case.close(single.loss(views)["loss"], f"out/{relation}_loss")

    student, teachers = model._run(views)
    objective = model.objectives["loss"]
    target = objective.head.target(teachers["teacher"], objective.normalization)
    rows, width = target.shape[:2]
    scores = objective.head(student, torch.arange(rows * width)).view_as(target)
    for side, logits in {"teacher": target, "student": scores}.items():
        # (B, queries, relations, heads, keys) -> (relations, B, heads, queries, keys)
        for name, relation in zip(
            ("qk", "vv"), logits.softmax(-1).permute(2, 0, 3, 1, 4), strict=True
        ):
            case.close(relation, f"out/{side}_{name}")
    case.assert_complete()
