"""The mask-token student equals BEiT v2's and dBOT's symmetric one; MaskDistill's loss on it."""

import pytest
import torch

from mimseg.algorithms.outputs import Needs
from mimseg.checkpoints.families import BEIT
from mimseg.registry import MODELS
from mimseg.teachers.taps import attention_weights

from golden import RAW, Case, arch, cases, gradients, needs_golden  # isort: skip

STUDENTS = [name for name in cases() if name.startswith("beit2_student")] or ["none"]
pytestmark = needs_golden


def build(case, target, cls=None, **options):
    h = case.h
    shared, per_block = h["use_shared_rel_pos_bias"], h["use_rel_pos_bias"]
    cfg = dict(
        type="mimseg.MaskedImageModeling",
        backbone=dict(
            type="mimseg.ViT",
            arch=arch(h),
            img_size=h["img_size"],
            patch_size=h["patch_size"],
            mask_mode="token",
            pos_embed="learned" if h["use_abs_pos_emb"] else "none",
            rel_pos_bias="shared" if shared else "per_block" if per_block else "none",
            layer_scale=h["init_values"],
            drop_path_rate=h["drop_path"],
            norm_eps=h["layer_norm_eps"],
        ),
        masking=dict(type="mimseg.GoldenMask", mask=case["in/mask"]),
        teacher=dict(type="mimseg.GoldenTeacher", tokens=target, cls=cls),
        normalization=dict(type="mimseg.NoNormalization"),
        head=dict(type="mimseg.LinearHead"),
        loss=dict(type="mimseg.CosineLoss"),
        **RAW,
    )
    model = MODELS.build(cfg | options)
    # strict, our bookkeeping of masks aside: the map covers the whole model
    result = model.load_state_dict(BEIT.to_ours(case.part("state/")), strict=False)
    assert not result.unexpected_keys
    assert set(result.missing_keys) <= {"masking.seed", "masking.step"}
    return model.eval()


def loss(case, *args, **options):
    model = build(case, *args, **options)
    views = {"student": case["in/image"], "teacher": case["in/image"]}
    return model.loss(views)["loss"], model


def every(student):
    """Flat positions of all patches, without CLS."""
    rows, width = student.tokens.shape[0], 1 + student.length
    return torch.arange(rows * width).reshape(rows, width)[:, 1:].flatten()


def check_gradients(case, model):
    found = gradients(model, BEIT)
    for key in [k for k in case.tensors if k.startswith("out/grad/")]:
        case.close(found[key.removeprefix("out/grad/")], key)


@pytest.mark.parametrize("name", STUDENTS)
def test_beit2_students_with_maskdistill(name):
    case = Case(name)
    target, mask = case["in/target"], case["in/mask"].bool()
    normal = dict(type="mimseg.TokenLayerNorm", eps=1e-6)
    smooth = dict(type="mimseg.SmoothL1Loss", beta=1.0)
    value, model = loss(case, target, normalization=normal, loss=smooth)
    case.close(value, "out/md_loss_beta1")
    value.backward()
    check_gradients(case, model)
    for key, criterion in {
        "md_loss_beta2": dict(type="mimseg.SmoothL1Loss", beta=2.0),
        "md_loss_l2": dict(type="mimseg.L2Loss"),
        "md_loss_l1": dict(type="mimseg.L1Loss"),
        "md_loss_cosine": dict(type="mimseg.CosineLoss"),
    }.items():
        case.close(loss(case, target, normalization=normal, loss=criterion)[0], f"out/{key}")

    depth = case.h["depth"]
    needs = Needs(layers=frozenset({0, -1}), qkv=frozenset({-1}))
    student = model.backbone.encode(case["in/image"], mask, needs)
    case.close(student.tokens, "out/tokens")
    case.close(student.taps[0], "out/block_outputs_first")
    case.close(student.taps[-1], "out/block_outputs_last")
    head = model.objectives["loss"].head
    predictions = head(student, every(student)).reshape(*mask.shape, -1)
    case.close(predictions, "out/pred_all")
    case.close(predictions[mask], "out/pred")
    objective = model.objectives["loss"]
    teacher = model.bank["teacher"].targets(case["in/image"], objective.teacher_needs)
    positions = objective.positions(student)
    case.close(objective.target(student, teacher, positions), "out/md_target")
    full = model.backbone.encode(case["in/image"], None, needs)
    case.close(full.tokens, "out/tokens_no_mask")
    bias = model.backbone.block_bias(depth - 1, full.grid)
    case.close(attention_weights(*full.qkv[-1][:2], bias), "out/attn_last_no_mask")
    case.assert_complete()


def test_dbot_symmetric_student():
    case = Case("dbot_beit")
    target, mask = case["in/target"], case["in/mask"].bool()
    value, model = loss(case, target[:, 1:])
    case.close(value, "out/loss")
    value.backward()
    check_gradients(case, model)
    assert not model.training
    for key, criterion in {
        "loss_smoothl1_2": dict(type="mimseg.SmoothL1Loss", beta=2.0),
        "loss_l1": dict(type="mimseg.L1Loss"),
        "loss_l2": dict(type="mimseg.L2Loss"),
    }.items():
        case.close(loss(case, target[:, 1:], loss=criterion)[0], f"out/{key}")
    with_cls = loss(case, target[:, 1:], target[:, 0], with_cls=True)[0]
    case.close(with_cls, "out/loss_with_cls")

    seen = {}
    block = model.backbone.layers[1]
    block.ln1.register_forward_hook(lambda _, args, out: seen.update(normed=out[:, 1:]))
    student = model.backbone.encode(case["in/image"], mask, Needs())
    case.close(student.attention_bias, "out/rel_pos_bias")
    case.close(student.tokens, "out/tokens_before_head")
    case.close(student.tokens[mask], "out/masked_tokens_before_head")
    head = model.objectives["loss"].head
    predictions = head(student, every(student)).reshape(*mask.shape, -1)
    case.close(predictions, "out/pred_all")
    case.close(predictions[mask], "out/pred")
    chosen = torch.cat([torch.ones_like(mask[:, :1]), mask], dim=1).flatten().nonzero().flatten()
    case.close(head(student, chosen), "out/pred_with_cls")
    case.close(seen["normed"], "out/forward_intermediate_norm1_of_block1")
    case.assert_complete()
