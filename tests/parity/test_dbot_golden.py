"""dBOT's encoder-decoder system equals the official code, gradients included."""

import json
import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from mimseg.registry import MODELS

DEFAULT = Path(__file__).parents[2] / "../shared/golden/dev"
GOLDEN = Path(os.environ.get("MIMSEG_GOLDEN", DEFAULT))
pytestmark = pytest.mark.skipif(not GOLDEN.exists(), reason="no ../shared/golden")
RULES = [
    ("patch_embed.proj.", "patch_embed.projection."),
    (".norm1.", ".ln1."),
    (".norm2.", ".ln2."),
    (".mlp.fc1.", ".ffn.layers.0.0."),
    (".mlp.fc2.", ".ffn.layers.1."),
]
HEAD = {
    "decoder_embed": "embed",
    "decoder_blocks": "layers",
    "decoder_norm": "norm",
    "decoder_predp": "projection",
    "mask_token": "mask_token",
}


def our_name(name):
    """An official name in our model."""
    for theirs, ours in RULES:
        name = name.replace(theirs, ours)
    first, _, rest = name.partition(".")
    if first in HEAD:
        return f"objectives.loss.head.{HEAD[first]}{'.' * bool(rest)}{rest}"
    if first in ("blocks", "norm"):
        first = {"blocks": "layers", "norm": "ln1"}[first]
    return "backbone." + (f"{first}.{rest}" if rest else first)


def load(name):
    cases = {c["name"]: c for c in json.loads((GOLDEN / "cases.json").read_text())["cases"]}
    case = cases[name]
    tensors = load_file(GOLDEN / case["file"])
    if "state/student/cls_token" not in tensors:  # shares the student of the full case
        full = load_file(GOLDEN / cases["dbot_main_full"]["file"])
        tensors |= {k: v for k, v in full.items() if k.startswith(("state/student/", "in/"))}
    return case, tensors


def part(tensors, prefix):
    return {k[len(prefix) :]: v for k, v in tensors.items() if k.startswith(prefix)}


@pytest.mark.parametrize("name", ["dbot_main_full", "dbot_main_depth0"])
def test_dbot(name):
    case, tensors = load(name)
    h = load("dbot_main_full")[0]["hparams"] | case["hparams"]
    arch = dict(
        embed_dims=h["embed_dim"],
        num_layers=h["depth"],
        num_heads=h["num_heads"],
        feedforward_channels=h["mlp_ratio"] * h["embed_dim"],
    )
    head = dict(
        type="mimseg.DecoderHead",
        embed_dims=h["decoder_embed_dim"],
        depth=h["decoder_depth"],
        num_heads=h["decoder_num_heads"],
    )
    cfg = dict(
        type="mimseg.MaskedImageModeling",
        backbone=dict(
            type="mimseg.ViT", arch=arch, img_size=h["img_size"], patch_size=h["patch_size"]
        ),
        masking=dict(type="mimseg.RandomMasking", ratio=h["mask_ratio"]),
        teacher=dict(type="mimseg.ViTTeacher", init="random", depth=h["teacher_depth"]),
        normalization=dict(type="mimseg.TokenLayerNorm", unbiased=True, eps=1e-6),
        head=head,
        loss=dict(type="mimseg.SmoothL1Loss", beta=2.0),
        with_cls=True,
    )
    model = MODELS.build(cfg)
    student = {our_name(k): v for k, v in part(tensors, "state/student/").items()}
    result = model.load_state_dict(student, strict=False)
    assert set(result.unexpected_keys) == {"backbone.decoder_pos_embed"}  # ours is no state
    teacher = {our_name(k): v for k, v in part(tensors, "state/teacher/").items()}
    teacher = {k.removeprefix("backbone."): v for k, v in teacher.items()}
    assert not model.bank["teacher"].backbone.load_state_dict(teacher, strict=True).missing_keys

    def close(value, key):
        tolerance = 3 * case["suggested_atol"][key]
        torch.testing.assert_close(value, tensors[key], atol=tolerance, rtol=0, msg=key)

    images, mask = tensors["in/image"], tensors["out/mask"][:, 1:].bool()
    objective = model.objectives["loss"]
    targets = model.bank["teacher"].targets(images, objective.teacher_needs)
    if "out/teacher_raw" in tensors:
        close(targets.sequence(-1), "out/teacher_raw")
    close(objective.head.target(targets, objective.normalization), "out/target")
    out = model.backbone.encode(images, mask)
    every = torch.arange(mask.shape[0] * (1 + mask.shape[1]))
    prediction = objective.head(out, every).unflatten(0, (mask.shape[0], -1))
    close(prediction, "out/pred")
    loss = objective(out, targets)
    close(loss, "out/loss")
    loss.backward()
    gradients = dict(model.named_parameters())
    compared = [k for k in tensors if k.startswith("out/grad/") and k in case["tensors"]]
    assert compared
    for key in compared:
        close(gradients[our_name(key.removeprefix("out/grad/"))].grad, key)
