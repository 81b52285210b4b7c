"""A backbone loads from wherever it lies in a checkpoint, or fails loudly."""

import copy
import math

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from mimseg.checkpoints.loader import load_backbone
from mimseg.checkpoints.report import group_of
from mimseg.errors import UserError
from mimseg.students.vit import ViT

DIMS = 16


def vit(depth=2, dims=DIMS, **kwargs):
    arch = dict(embed_dims=dims, num_layers=depth, num_heads=2, feedforward_channels=2 * dims)
    return ViT(**{"arch": arch, "img_size": 16, "patch_size": 4, **kwargs})


def random_state(**kwargs):
    """The weights of such a ViT, all of them random."""
    torch.manual_seed(3)
    return {name: torch.randn_like(v) for name, v in vit(**kwargs).state_dict().items()}


def prefixed(state, prefix):
    return {prefix + name: value for name, value in state.items()}


def save(path, state, container="state_dict"):
    torch.save({container: state, "meta": {}} if container else state, path)
    return path


def assert_equal(module, state, but=()):
    for name, value in module.state_dict().items():
        if name not in but:
            assert torch.equal(value, state[name]), name


@pytest.mark.parametrize(
    "prefix, container",
    [
        ("backbone.", "state_dict"),
        ("module.backbone.", "model"),
        ("encoder.", "module"),
        ("", None),
        ("", "model"),
        ("student.backbone.", "state_dict"),
        ("module.", "student"),
        ("backbone._orig_mod.", "state_dict"),
    ],
)
def test_finds_the_prefix_and_loads_bit_for_bit(tmp_path, prefix, container):
    state = random_state()
    extras = {"head.fc.weight": torch.ones(2), "neck.ln1.weight": torch.ones(2)}
    model = vit()
    report = load_backbone(
        model, save(tmp_path / "a.pth", prefixed(state, prefix) | extras, container)
    )
    assert_equal(model, state)
    assert report.prefix == prefix.replace("_orig_mod.", "")
    assert len(report.matched) == len(state)
    assert not report.missing and not report.resized


def test_backbone_beside_teachers_and_copies(tmp_path):
    state, other = random_state(), {k: v + 1 for k, v in random_state().items()}
    file = {}
    for prefix in ("teacher.", "teachers.t.backbone.", "momentum.", "teacher_backbone.", "ema."):
        file |= prefixed(other, prefix)
    model = vit()
    report = load_backbone(model, save(tmp_path / "a.pth", file | prefixed(state, "backbone.")))
    assert_equal(model, state)
    assert report.prefix == "backbone." and report.outside == 5 * len(state)
    with pytest.raises(UserError, match="holds this backbone"):
        load_backbone(vit(), save(tmp_path / "b.pth", prefixed(other, "teachers.t.backbone.")))


def test_a_deeper_decoder_of_the_same_names_is_not_the_backbone(tmp_path):
    decoder = {k: v for k, v in random_state(depth=8).items() if k.startswith("layers.")}
    file = prefixed(random_state(depth=2), "backbone.") | prefixed(decoder, "decoder.")
    with pytest.raises(UserError, match="backbone of 8 blocks.*the file has 2"):
        load_backbone(vit(depth=8), save(tmp_path / "a.pth", file))


def test_work_dir_safetensors_and_half_precision(tmp_path):
    state = random_state()
    save(tmp_path / "iter_5.pth", prefixed(state, "backbone."))
    (tmp_path / "last_checkpoint").write_text("/gone/iter_5.pth")
    model = vit()
    assert load_backbone(model, tmp_path).source == str(tmp_path / "iter_5.pth")
    assert_equal(model, state)

    half = {k: v.half() for k, v in state.items()}
    save_file(half, tmp_path / "a.safetensors")
    load_backbone(model, tmp_path / "a.safetensors")
    assert_equal(model, {k: v.float() for k, v in half.items()})


def test_another_image_size_resizes_the_positions(tmp_path):
    state = random_state(img_size=16)
    model = vit(img_size=24)
    report = load_backbone(model, save(tmp_path / "a.pth", prefixed(state, "backbone.")))
    assert report.resized == ("pos_embed",) and "pos_embed" in report.matched
    assert_equal(model, state, but=("pos_embed",))
    assert torch.equal(model.pos_embed[:, 0], state["pos_embed"][:, 0])
    assert report.counts()["pos_embed"] == dict(matched=1, resized=1, missing=0, unexpected=0)
    assert "resized: pos_embed" in str(report)


def test_what_a_frozen_backbone_lacks_is_told(tmp_path):
    state = random_state()
    state.pop("ln1.weight"), state.pop("ln1.bias")
    path = save(tmp_path / "a.pth", prefixed(state, "backbone."))
    assert load_backbone(vit(), path).missing == ("ln1.weight", "ln1.bias")
    with pytest.raises(UserError, match="frozen.*lacks backbone.ln1.*final_norm=False"):
        load_backbone(vit(frozen=True), path)
    load_backbone(vit(frozen=True, final_norm=False), path)


def test_another_architecture_is_named_where_it_does_not_load(tmp_path):
    state = random_state(pos_embed="learned")
    state["dist_token"] = torch.ones(1, 1, DIMS)
    state["pos_embed"] = torch.ones(1, 18, DIMS)
    path = save(tmp_path / "a.pth", prefixed(state, "backbone."))
    with pytest.raises(UserError, match="first unknown keys are backbone.dist_token"):
        load_backbone(vit(pos_embed="learned"), path)


def test_report_tells_missing_and_unexpected_by_group(tmp_path):
    state = random_state(mask_mode="drop")
    state.pop("ln1.weight"), state.pop("ln1.bias")
    state["norm.weight"] = torch.ones(3)
    state["backbone_extra"] = torch.ones(1)
    model = vit(layer_scale=0.1, mask_mode="token")
    before = copy.deepcopy(model.state_dict())
    report = load_backbone(model, save(tmp_path / "a.pth", prefixed(state, "backbone.")))
    gammas = [n for n in before if "gamma" in n]
    assert len(gammas) == 4
    assert set(report.missing) == {*gammas, "mask_token", "ln1.weight", "ln1.bias"}
    for name in report.missing:
        assert torch.equal(model.state_dict()[name], before[name])
    counts = report.counts()
    assert counts["layers"]["missing"] == 4 and counts["tokens"]["missing"] == 1
    assert counts["norm"] == dict(matched=0, resized=0, missing=2, unexpected=1)
    assert counts["other"]["unexpected"] == 1 and "layers (2)" in str(report)
    assert group_of("pre_norm.bias") == "norm" and group_of("fc.weight") == "other"


@pytest.mark.parametrize(
    "other, told",
    [
        (dict(dims=24), r"patch_embed.projection.weight is \(24, 3, 4, 4\).*\(16, 3, 4, 4\)"),
        (dict(dims=24), "set the backbone's embed_dims to 24"),
        (dict(patch_size=8, img_size=32), "another patch size: set patch_size to 8"),
        (dict(in_channels=1), "input channels: set in_channels to 1"),
        (dict(depth=1), "backbone of 2 blocks.*the file has 1.*depth"),
        (dict(depth=4), "backbone of 2 blocks.*the file has 4.*depth"),
        (dict(layer_scale=0.1), "its blocks have no layers.0.attn.gamma1.weight"),
        (dict(with_cls_token=False), "pos_embed"),
    ],
)
def test_another_architecture_is_told(tmp_path, other, told):
    model = vit()
    before = copy.deepcopy(model.state_dict())
    file = save(tmp_path / "a.pth", prefixed(random_state(**other), "backbone."))
    with pytest.raises(UserError, match=told) as error:
        load_backbone(model, file, key="teacher.init")
    assert str(error.value).startswith("teacher.init = ") and "a.pth" in str(error.value)
    assert_equal(model, before)


def test_another_mlp_width_is_told(tmp_path):
    arch = dict(embed_dims=DIMS, num_layers=2, num_heads=2, feedforward_channels=48)
    file = save(tmp_path / "a.pth", random_state() | random_state(arch=arch))
    with pytest.raises(UserError, match="feedforward_channels"):
        load_backbone(vit(), file)


def test_first_blocks_of_a_deeper_file_where_asked_for(tmp_path):
    state = random_state(depth=4)
    file = save(tmp_path / "a.pth", prefixed(state, "backbone."))
    for depth in (2, 0):
        model = vit()
        model.layers = model.layers[:depth]
        report = load_backbone(model, file, extra_layers=True)
        assert_equal(model, state)
        assert not report.unexpected
    with pytest.raises(UserError, match="of 6 blocks"):
        load_backbone(vit(depth=6), file, extra_layers=True)


def test_incomplete_blocks_are_told(tmp_path):
    state = random_state()
    del state["layers.1.ffn.layers.1.bias"]
    with pytest.raises(UserError, match="lacks backbone.layers.1.ffn.layers.1.bias"):
        load_backbone(vit(), save(tmp_path / "a.pth", prefixed(state, "backbone.")))


@pytest.mark.parametrize(
    "state",
    [
        {"roi_head.fc.weight": torch.ones(2), "rpn_head.conv.bias": torch.ones(2)},
        {"cls_token": torch.zeros(1, 1, DIMS), "blocks.0.norm1.weight": torch.ones(DIMS)},
    ],
)
def test_no_backbone_in_it(tmp_path, state):
    with pytest.raises(UserError, match="none of its|holds this backbone") as error:
        load_backbone(vit(), save(tmp_path / "a.pth", state))
    assert next(iter(state)).split(".")[0] in str(error.value)


def test_no_weights_in_it(tmp_path):
    with pytest.raises(UserError, match="its keys are state_dict, meta"):
        load_backbone(vit(), save(tmp_path / "a.pth", {}))


def test_nan_is_told(tmp_path):
    state = random_state()
    state["layers.0.attn.qkv.weight"][0, 0] = math.nan
    with pytest.raises(UserError, match="NaN or infinity in layers.0.attn.qkv.weight"):
        load_backbone(vit(), save(tmp_path / "a.pth", state))


class Options:
    """Stands for the argparse.Namespace of many released files."""


def test_code_is_refused_and_trusted(tmp_path):
    state = random_state()
    torch.save({"model": state, "args": Options()}, tmp_path / "a.pth")
    with pytest.raises(UserError, match="--init.*code of.*Options.*trust=True"):
        load_backbone(vit(), tmp_path / "a.pth")
    model = vit()
    load_backbone(model, tmp_path / "a.pth", trust=True)
    assert_equal(model, state)


def test_any_module_loads(tmp_path):
    module, source = nn.Linear(3, 2), nn.Linear(3, 2)
    load_backbone(module, save(tmp_path / "a.pth", prefixed(source.state_dict(), "backbone.")))
    assert torch.equal(module.weight, source.weight)
