"""Backbones go to other libraries and come back: same features there, same bits here."""

import functools

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from mimseg.checkpoints.convert import convert
from mimseg.checkpoints.files import read_checkpoint
from mimseg.checkpoints.libraries import choose_class
from mimseg.checkpoints.loader import load_backbone
from mimseg.checkpoints.vit_shape import shape_of
from mimseg.errors import UserError
from mimseg.students.vit import ViT

ARCH = dict(embed_dims=24, num_layers=3, num_heads=4, feedforward_channels=48)
KINDS = {
    "vit": dict(pos_embed="learned"),
    "vit with gamma": dict(pos_embed="learned", layer_scale=0.1),
    "vit without cls": dict(with_cls_token=False),
    "vit without biases": dict(qkv_bias=False),
    "vit without norm": dict(final_norm=False),
    "per block": dict(pos_embed="none", rel_pos_bias="per_block", layer_scale=0.1),
    "shared": dict(pos_embed="learned", rel_pos_bias="shared", layer_scale=0.1),
    "no gamma": dict(pos_embed="none", rel_pos_bias="shared"),
}
BEITS = ("per block", "shared", "no gamma")


def vit(kind="vit", seed=1, **options):
    """A ViT with every weight random, the keys' biases apart: BEiT has none."""
    torch.manual_seed(seed)
    base = dict(arch=ARCH, img_size=32, patch_size=8, out_type="raw")
    model = ViT(**base | KINDS[kind] | options)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(torch.randn_like(parameter) * 0.2)
            if name.endswith("qkv.bias"):
                parameter.chunk(3)[1].zero_()
    return model.eval()


@functools.cache
def classes():
    import mmpretrain.models  # noqa: F401
    import timm
    from mmpretrain.registry import MODELS

    def build(name, options):
        if name.startswith("timm."):
            kind = getattr(timm.models, name.rpartition(".")[2])
            return kind(**options | dict(num_heads=4))
        options["arch"]["num_heads"] = 4
        return MODELS.build(dict(type=name, **options) | dict(out_type="raw"))

    return build


def theirs(library, state):
    """The model that the hint of a conversion describes."""
    target = choose_class(library, state)
    model = classes()(target.name, target.options(shape_of(state)))
    model.eval()  # mmpretrain's returns None
    return target.name, model


def tokens(model, images):
    with torch.no_grad():
        if hasattr(model, "forward_features"):
            return model.forward_features(images)
        return model(images)[0]


def take(model, path):
    """Load a converted file as its library would; indices of positions are computed there."""
    state = read_checkpoint(path)
    state = {k.removeprefix("backbone."): v for k, v in state.get("state_dict", state).items()}
    missing, unexpected = model.load_state_dict(state, strict=False)
    assert not unexpected
    assert all(name.endswith("relative_position_index") for name in missing), missing


def save(model, path):
    torch.save({"state_dict": {f"backbone.{k}": v for k, v in model.state_dict().items()}}, path)
    return path


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("library", ["timm", "mmpretrain"])
def test_same_features_out_and_in(library, kind, suffix, tmp_path):
    model, images = vit(kind), torch.randn(2, 3, 32, 32)
    convert(save(model, tmp_path / "a.pth"), tmp_path / f"b{suffix}", to=library)
    name, other = theirs(library, model.state_dict())
    assert ("beit" in name.lower()) == (kind in BEITS)
    take(other, tmp_path / f"b{suffix}")
    expected = tokens(model, images)
    assert expected.std() > 0.1
    torch.testing.assert_close(tokens(other, images), expected, atol=1e-4, rtol=0)

    # and from that library's own file, with other weights
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    torch.save(other.state_dict(), tmp_path / "c.pth")
    model = vit(kind, seed=2)
    report = load_backbone(model, tmp_path / "c.pth")
    assert not report.missing and not report.unexpected
    changed = tokens(other, images)
    assert (changed - expected).abs().max() > 0.1
    torch.testing.assert_close(tokens(model, images), changed, atol=1e-4, rtol=0)


@pytest.mark.parametrize(
    "library, kind",
    [
        (library, kind)
        for library in ("timm", "hf", "mmpretrain", "mimseg")
        for kind in KINDS
        if (library, kind) != ("hf", "vit without cls")  # refused, see below
    ],
)
def test_there_and_back_bit_for_bit(library, kind, tmp_path):
    model = vit(kind)
    convert(save(model, tmp_path / "a.pth"), tmp_path / "b.safetensors", to=library)
    convert(tmp_path / "b.safetensors", tmp_path / "c.pth")
    back, state = read_checkpoint(tmp_path / "c.pth")["state_dict"], model.state_dict()
    assert set(back) == {f"backbone.{name}" for name in state}
    for name, value in state.items():
        assert torch.equal(back[f"backbone.{name}"], value), name
        assert back[f"backbone.{name}"].dtype == value.dtype


def test_names_of_hugging_face(tmp_path):
    """As transformers writes and reads them; tests/checkpoints/hf_check.py asks the library."""
    convert(save(vit("per block"), tmp_path / "a.pth"), tmp_path / "b.safetensors", to="hf")
    found = load_file(tmp_path / "b.safetensors")
    layer = {name.split(".", 3)[3] for name in found if name.startswith("encoder.layer.1.")}
    pair = ("weight", "bias")
    assert layer == {
        *(f"attention.attention.{n}.{k}" for n in ("query", "value") for k in pair),
        "attention.attention.key.weight",
        "attention.attention.relative_position_bias.relative_position_bias_table",
        *(f"attention.output.dense.{k}" for k in pair),
        *(f"intermediate.dense.{k}" for k in pair),
        *(f"output.dense.{k}" for k in pair),
        *(f"layernorm_{n}.{k}" for n in ("before", "after") for k in pair),
        *("lambda_1", "lambda_2"),
    }
    stem = {name for name in found if not name.startswith("encoder.layer.")}
    assert stem == {
        "embeddings.cls_token",
        *(f"embeddings.patch_embeddings.projection.{k}" for k in pair),
        *(f"layernorm.{k}" for k in pair),
    }
    convert(save(vit("vit"), tmp_path / "a.pth"), tmp_path / "c.safetensors", to="hf")
    found = load_file(tmp_path / "c.safetensors")
    assert "embeddings.position_embeddings" in found
    assert found["encoder.layer.0.attention.attention.key.bias"].shape == (24,)


@pytest.mark.parametrize(
    "options, to, model, told",
    [
        (
            KINDS["shared"],
            "timm",
            "vit",
            "rel_pos_bias.*timm.models.Beit can hold it: --model beit",
        ),
        (KINDS["per block"], "hf", "vit", "pos_embed.*BeitConfig can hold it: --model beit"),
        (KINDS["vit with gamma"], "hf", "vit", "layers.0.attn.gamma1.weight.*--model beit"),
        (KINDS["vit without cls"], "hf", "auto", "cls_token.*BeitConfig always has one.*--to mims"),
        (KINDS["vit without cls"], "timm", "beit", "cls_token.*VisionTransformer can hold it"),
        (dict(with_cls_token=False, decomposed_rel_pos=True), "timm", "auto", "cls_token"),
        (dict(with_cls_token=False, decomposed_rel_pos=True), "timm", "vit", "attn.rel_pos_h"),
        (dict(with_cls_token=False, decomposed_rel_pos=True), "mmpretrain", "vit", "rel_pos_h"),
    ],
)
def test_what_a_class_cannot_hold(options, to, model, told, tmp_path):
    path = save(vit("vit", **options), tmp_path / "a.pth")
    with pytest.raises(UserError, match=told):
        convert(path, tmp_path / "b.pth", to=to, model=model)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.pth"]


def test_what_changes_no_feature_is_left_out_and_told(tmp_path):
    model, images = vit("shared", mask_mode="token"), torch.randn(2, 3, 32, 32)
    nn.init.normal_(model.layers[1].attn.qkv.bias)
    lines = convert(save(model, tmp_path / "a.pth"), tmp_path / "b.pth", to="timm")
    text = "\n".join(lines)
    assert "left out: mask_token" in text and "left out: the keys' biases" in text
    assert "timm.models.Beit(img_size=32, patch_size=8, embed_dim=24, depth=3" in text
    _, other = theirs("timm", model.state_dict())
    take(other, tmp_path / "b.pth")
    torch.testing.assert_close(tokens(other, images), tokens(model, images), atol=1e-4, rtol=0)
