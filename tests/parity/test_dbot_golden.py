"""dBOT's encoder-decoder system and its stage change equal the official code."""

import pytest
import torch

from mimseg.checkpoints.families import DBOT
from mimseg.registry import MODELS

from golden import RAW, Case, arch, gradients, needs_golden  # isort: skip

pytestmark = needs_golden
ORDER = "the official order of random numbers; the mask made of them is compared"


def build(case, **options):
    h = case.h
    cfg = dict(
        type="mimseg.MaskedImageModeling",
        backbone=dict(
            type="mimseg.ViT",
            arch=arch(h),
            img_size=h["img_size"],
            patch_size=h["patch_size"],
            norm_eps=h["layer_norm_eps"],
        ),
        masking=dict(type="mimseg.GoldenMask", mask=case["out/mask"][:, 1:])
        if "out/mask" in case.tensors
        else dict(type="mimseg.RandomMasking", ratio=h["mask_ratio"]),
        teacher=dict(
            type="mimseg.ViTTeacher",
            init="random",
            depth=h.get("teacher_depth"),
            final_norm=bool(h.get("tlayernorm")),
            **RAW,
        ),
        normalization=dict(type="mimseg.TokenLayerNorm", unbiased=True, eps=1e-6),
        head=dict(
            type="mimseg.DecoderHead",
            embed_dims=h["decoder_embed_dim"],
            depth=h["decoder_depth"],
            num_heads=h["decoder_num_heads"],
        ),
        loss=dict(type="mimseg.SmoothL1Loss", beta=2.0),
        with_cls=True,
        **RAW,
    )
    for key, value in options.items():
        cfg[key] = cfg[key] | value if isinstance(value, dict) and "type" not in value else value
    return MODELS.build(cfg)


def load(model, case):
    result = model.load_state_dict(DBOT.to_ours(case.part("state/student/")), strict=False)
    assert not result.unexpected_keys
    left = {k.split(".")[0] for k in result.missing_keys}
    assert left <= {"masking", "teachers"}
    if case.part("state/teacher/"):
        teacher = DBOT.to_ours(case.part("state/teacher/"))
        teacher = {k.removeprefix("backbone."): v for k, v in teacher.items()}
        model.bank["teacher"].backbone.load_state_dict(teacher, strict=True)
    return model.eval()


@pytest.mark.parametrize("name", ["dbot_main_full", "dbot_main_depth0"])
def test_dbot(name):
    case = Case(name)
    images = case["in/image"]
    views = {"student": images, "teacher": images}
    model = load(build(case), case)
    objective = model.objectives["loss"]
    loss = model.loss(views)["loss"]
    case.close(loss, "out/loss")
    loss.backward()
    found = gradients(model, DBOT)
    for key in [k for k in case.case["tensors"] if k.startswith("out/grad/")]:
        case.close(found[key.removeprefix("out/grad/")], key)
    for key, norm in case.case["grad_norms_student"].items():
        assert norm is None or found[key].norm() == pytest.approx(norm, rel=1e-4), key

    none = dict(type="mimseg.NoNormalization")
    loss = load(build(case, normalization=none), case).loss(views)["loss"]
    case.close(loss, "out/loss_no_target_norm")
    normed = load(build(case, teacher=dict(final_norm=True)), case)
    case.close(normed.loss(views)["loss"], "out/loss_tlayernorm1")
    taught = normed.bank.run(views, {"teacher": objective.teacher_needs})["teacher"]
    case.close(taught.sequence(-1), "out/teacher_raw_tlayernorm1")

    student, teachers = model._run(views)
    case.close(teachers["teacher"].sequence(-1), "out/teacher_raw")
    target = objective.head.target(teachers["teacher"], objective.normalization)
    case.close(target, "out/target")
    every = torch.arange(target.shape[0] * target.shape[1])
    prediction = objective.head(student, every)
    case.close(prediction.view_as(target), "out/pred")
    each = objective.criterion(prediction, target.flatten(0, 1))
    case.close(each.view(target.shape[:2]), "out/loss_per_token")
    rows, width = target.shape[:2]
    chosen = torch.zeros(rows * width).index_fill(0, objective.positions(student), 1.0)
    case.close(chosen.view(rows, width), "out/mask")
    order = case["in/noise"].argsort(1)[:, : case.h["len_keep"]]  # visible patches come shuffled
    place = (student.kept[:, None, :] == order[..., None]).long().argmax(-1)
    latent = student.tokens.gather(1, place[..., None].expand(-1, -1, student.tokens.shape[2]))
    case.close(torch.cat([student.cls[:, None], latent], 1), "out/latent")
    case.assert_complete(ids_restore=ORDER)


def test_stage_change(tmp_path):
    case = Case("dbot_stage")
    student = build(case)
    load(student, case)
    path = tmp_path / "stage1.pth"
    torch.save({"state_dict": student.state_dict()}, path)
    lists = case.case["lists"]
    depths = {
        "teacher_depth_full": case.h["depth"],
        **{k: int(k.rsplit("_", 1)[1]) for k in lists if k[-1].isdigit()},
    }
    for key, depth in depths.items():
        model = build(case, teacher=dict(init=str(path), depth=depth))
        model.init_weights()
        teacher = model.bank["teacher"].backbone
        named = DBOT.to_theirs({f"backbone.{k}": v for k, v in teacher.state_dict().items()})
        assert set(named) == set(lists[key]["teacher_keys"])
        official = case.part("state/student/")
        for name in lists[key]["copied_keys"]:
            assert torch.equal(named[name], official[name]), name
    model = build(case, teacher=dict(init=str(path), depth=case.h["teacher_depth_after_change"]))
    model.init_weights()
    views = {"teacher": case["in/image"]}
    needs = {"teacher": model.objectives["loss"].teacher_needs}
    case.close(model.bank.run(views, needs)["teacher"].sequence(-1), "out/teacher_raw")
    # the new student: everything drawn anew, the patch embedding's bias too, which the official
    # code forgets (it is zero there before training, as here after)
    drawn = DBOT.to_theirs(model.state_dict())
    before = DBOT.to_theirs(student.state_dict())
    changed = {name for name, value in drawn.items() if not torch.equal(value, before[name])}
    forgotten = "patch_embed.proj.bias"
    assert forgotten in lists["student_initialize_weights"]["unchanged"]
    assert changed == {*lists["student_initialize_weights"]["changed"], forgotten}
    case.assert_complete()
