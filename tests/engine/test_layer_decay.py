"""Layer decay against a slow rule a parameter, the official tables, and schedulers."""

import copy
import json
from collections import Counter
from pathlib import Path

import pytest
import torch
from mmengine.config import ConfigDict
from mmengine.optim import CosineAnnealingLR, LinearLR, PolyLR, build_optim_wrapper
from mmengine.registry import OPTIM_WRAPPER_CONSTRUCTORS
from torch import nn

from mimseg.engine.layer_decay import LayerDecayConstructor
from mimseg.errors import UserError

GOLDEN = Path(__file__).parents[3] / "shared/golden/dev/cases.json"
LR, WD = 1e-3, 0.05


class Block(nn.Module):
    def __init__(self, dims=8):
        super().__init__()
        self.ln1 = nn.LayerNorm(dims)
        self.attn = nn.Module()
        self.attn.qkv = nn.Linear(dims, 3 * dims)
        self.attn.relative_position_bias_table = nn.Parameter(torch.zeros(9, 2))
        self.attn.gamma1 = nn.Module()
        self.attn.gamma1.weight = nn.Parameter(torch.ones(dims))


class Backbone(nn.Module):
    def __init__(self, depth=3, dims=8):
        super().__init__()
        self.cls_token = nn.Parameter(torch.zeros(1, 1, dims))
        self.mask_token = nn.Parameter(torch.zeros(1, 1, dims))
        self.pos_embed = nn.Parameter(torch.zeros(1, 5, dims))
        self.patch_embed = nn.Conv2d(3, dims, 4)
        self.layers = nn.ModuleList(Block(dims) for _ in range(depth))
        self.ln1 = nn.LayerNorm(dims)

    def get_layer_depth(self, param_name, prefix=""):
        last = len(self.layers) + 1
        if not param_name.startswith(prefix):
            return last, last + 1
        name = param_name[len(prefix) :]
        if name.startswith(("layers.", "blocks.")):
            return int(name.split(".")[1]) + 1, last + 1
        return (0 if "token" in name or "embed" in name else last), last + 1


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.backbone = Backbone()
        self.head = nn.Sequential(nn.Conv2d(8, 4, 1), nn.BatchNorm2d(4))


def build(model, optimizer=None, **paramwise):
    optimizer = optimizer or {"type": "AdamW", "lr": LR, "weight_decay": WD}
    cfg = {
        "type": "OptimWrapper",
        "optimizer": optimizer,
        "constructor": "mimseg.LayerDecayConstructor",
        "paramwise_cfg": paramwise,
    }
    return build_optim_wrapper(model, ConfigDict(cfg))


def settings_of(model, wrapper):
    """{name: its group}; every trained parameter is in exactly one."""
    names = {id(p): name for name, p in model.named_parameters()}
    found = [(names[id(p)], g) for g in wrapper.optimizer.param_groups for p in g["params"]]
    assert max(Counter(name for name, _ in found).values()) == 1
    assert {name for name, _ in found} == {
        n for n, p in model.named_parameters() if p.requires_grad
    }
    for group in wrapper.optimizer.param_groups:
        assert group["names"] == [names[id(p)] for p in group["params"]]
        assert group["lr"] == pytest.approx(LR * group["lr_scale"])
    return dict(found)


def test_equals_a_rule_a_parameter():
    model = Model()
    wrapper = build(model, layer_decay_rate=0.5)
    for name, group in settings_of(model, wrapper).items():
        depth = 4
        if name.startswith("backbone.layers."):
            depth = int(name.split(".")[2]) + 1
        elif name.startswith("backbone.") and not name.startswith("backbone.ln1"):
            depth = 0
        decays = name.endswith(("qkv.weight", "patch_embed.weight", "head.0.weight", "_bias_table"))
        assert group["lr"] == pytest.approx(LR * 0.5 ** (4 - depth)), name
        assert group["weight_decay"] == (WD if decays else 0.0), name
    assert len(wrapper.optimizer.param_groups) == 2 * 5  # five depths, with and without decay


def test_rate_one_makes_two_groups_and_needs_no_depth():
    model = nn.Module()
    model.backbone = nn.Linear(4, 4)
    for paramwise in ({}, {"layer_decay_rate": 1.0}):
        groups = build(model, **paramwise).optimizer.param_groups
        assert sorted((g["lr"], g["weight_decay"]) for g in groups) == [(LR, 0.0), (LR, WD)]
    with pytest.raises(UserError, match="get_layer_depth; Linear of Module has none"):
        build(model, layer_decay_rate=0.9)


def test_custom_keys_scale_a_head_and_keep_the_decay_rules():
    model = Model()
    rules = {"head": {"lr_mult": 10}, "head.1": {"lr_mult": 2, "decay_mult": 0.5}}
    group = settings_of(model, build(model, layer_decay_rate=0.5, custom_keys=rules))
    assert group["head.0.weight"]["lr"] == pytest.approx(10 * LR)
    assert group["head.0.weight"]["weight_decay"] == WD
    assert group["head.0.bias"]["weight_decay"] == 0
    assert group["head.1.bias"]["lr"] == pytest.approx(2 * LR)  # the longest key wins
    assert group["head.1.bias"]["weight_decay"] == WD / 2  # said so: overrides the rule
    assert group["backbone.ln1.weight"]["lr"] == LR


def test_frozen_parameters_are_left_out():
    model = Model()
    model.backbone.pos_embed.requires_grad_(False)
    model.backbone.layers[0].requires_grad_(False)
    settings = settings_of(model, build(model, layer_decay_rate=0.5))
    assert not any("layers.0" in name or "pos_embed" in name for name in settings)


def test_config_is_not_changed():
    paramwise = {"layer_decay_rate": 0.5, "custom_keys": {"head": {"lr_mult": 2}}}
    optim = {"optimizer": {"type": "AdamW", "lr": LR, "weight_decay": WD}}
    before = copy.deepcopy((paramwise, optim))
    LayerDecayConstructor(optim, paramwise)(Model())
    assert (paramwise, optim) == before


def test_without_weight_decay_the_optimizers_default_holds():
    model = Model()
    group = settings_of(model, build(model, {"type": "AdamW", "lr": LR}, layer_decay_rate=0.5))
    assert group["head.0.weight"]["weight_decay"] == 0.01  # AdamW's
    assert group["head.0.bias"]["weight_decay"] == 0


@pytest.mark.parametrize(
    "paramwise, told",
    [
        ({"layer_decay": 0.5}, "paramwise_cfg.layer_decay = 0.5.*one of layer_decay_rate"),
        ({"layer_decay_rate": 1.5}, r"layer_decay_rate = 1.5.*\(0, 1\]"),
        ({"layer_decay_rate": 0}, "layer_decay_rate = 0"),
        ({"custom_keys": {"head": {"lr": 2}}}, r"custom_keys\['head'\].lr = 2.*lr_mult"),
        ({"custom_keys": {"head": 2}}, r"custom_keys\['head'\] = 2"),
    ],
)
def test_bad_settings_are_named(paramwise, told):
    with pytest.raises(UserError, match=told):
        build(Model(), **paramwise)


def test_learning_rate_must_be_written():
    with pytest.raises(UserError, match="optimizer.lr"):
        build(Model(), {"type": "AdamW"}, layer_decay_rate=0.5)


def test_schedulers_keep_the_groups_in_proportion():
    for decay in (
        lambda o: CosineAnnealingLR(o, T_max=8, begin=2, end=10, eta_min=0, by_epoch=False),
        lambda o: PolyLR(o, power=0.9, begin=2, end=10, eta_min=0, by_epoch=False),
    ):
        wrapper = build(Model(), layer_decay_rate=0.5)
        warmup = LinearLR(wrapper, start_factor=0.1, begin=0, end=2, by_epoch=False)
        schedulers, top = [warmup, decay(wrapper)], []
        for _ in range(9):
            wrapper.optimizer.step()
            for scheduler in schedulers:
                scheduler.step()
            ratios = [g["lr"] / g["lr_scale"] for g in wrapper.optimizer.param_groups]
            assert ratios == pytest.approx([ratios[0]] * len(ratios), rel=1e-6)
            top.append(ratios[0])
        assert max(top) == pytest.approx(LR) and top[-1] < 0.2 * LR


def test_state_resumes():
    model = Model()
    wrapper = build(model, layer_decay_rate=0.5)
    other = build(copy.deepcopy(model), layer_decay_rate=0.5)
    other.load_state_dict(wrapper.state_dict())
    assert [g["lr"] for g in other.optimizer.param_groups] == [
        g["lr"] for g in wrapper.optimizer.param_groups
    ]


def test_is_found_by_name_from_any_scope():
    found = OPTIM_WRAPPER_CONSTRUCTORS.get("mimseg.LayerDecayConstructor")
    assert found is LayerDecayConstructor


@pytest.mark.skipif(not GOLDEN.exists(), reason="no ../shared/golden")
def test_official_tables():
    cases = json.loads(GOLDEN.read_text())["cases"]
    case = next(c for c in cases if c["name"] == "layer_decay")
    hparams = case["hparams"]
    tables = [table for table in case["lists"].values() if isinstance(table, dict)]
    assert len(tables) >= 2
    for table in tables:
        model = nn.Module()
        for name, row in table.items():
            plant(model, name, row["shape"])
        backbone = model.backbone
        backbone.layers = range(hparams["depth"])
        backbone.get_layer_depth = lambda n, p, b=backbone: Backbone.get_layer_depth(b, n, p)
        optimizer = {
            "type": "AdamW",
            "lr": hparams["base_lr"],
            "weight_decay": hparams["base_wd"],
        }
        wrapper = build(
            model,
            optimizer,
            layer_decay_rate=hparams["layer_decay_rate"],
            decay_embeddings=True,
        )
        checked = 0
        for group in wrapper.optimizer.param_groups:
            for name in group["names"]:
                row = table[name]
                assert group["lr_scale"] == pytest.approx(row["lr_scale"]), name
                assert group["lr"] == pytest.approx(row["lr"]), name
                assert group["weight_decay"] == row["weight_decay"], name
                checked += 1
        assert checked == len(table)


def plant(model, name, shape):
    """Put a parameter of that name into a tree of bare modules."""
    *path, leaf = name.split(".")
    for part in path:
        if part not in model._modules:
            model.add_module(part, nn.Module())
        model = model._modules[part]
    model.register_parameter(leaf, nn.Parameter(torch.zeros(shape)))
