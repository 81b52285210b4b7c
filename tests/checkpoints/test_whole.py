"""A whole model loads in full, or the error names what does not fit."""

import math

import pytest
import torch
from mmengine.config import Config
from torch import nn

from mimseg.benchmark.trained import load_model
from mimseg.checkpoints.loader import load_start, load_whole
from mimseg.checkpoints.match import compare
from mimseg.errors import UserError
from mimseg.students.vit import ViT

ARCH = dict(embed_dims=16, num_layers=1, num_heads=2, feedforward_channels=32)


def model(img_size=16, classes=3):
    net = nn.Module()
    net.backbone = ViT(ARCH, img_size=img_size, patch_size=4)
    net.backbone.init_weights()
    net.norm, net.head = nn.BatchNorm1d(16), nn.Linear(16, classes)
    return net


def weights(**kwargs):
    torch.manual_seed(1)
    state = model(**kwargs).state_dict()
    return {n: torch.randn_like(v) if v.is_floating_point() else v for n, v in state.items()}


def load(net, state):
    return load_whole(net, state, "a.pth", "CHECKPOINT", "name another")


def test_compare_says_what_differs():
    ours = {n: torch.zeros(2) for n in ("a", "b", "c", "bn.num_batches_tracked")}
    theirs = {"b": torch.zeros(3), "c": torch.tensor([1.0, math.nan]), "d": torch.zeros(1)}
    match = compare(ours, theirs)
    assert (match.matched, match.missing, match.unexpected) == (("b", "c"), ("a",), ("d",))
    assert match.shapes == {"b": ((3,), (2,))} and match.not_finite == ("c",)
    assert match.shape_text(prefix="x.") == (
        "x.b is (3,) there and (2,) in the model (tensors that differ: 1)"
    )
    with pytest.raises(UserError, match="KEY = 'a.pth': expected finite weights; NaN.* in c"):
        match.require_finite("KEY", "a.pth")
    match.require_finite("KEY", "a.pth", ignore={"c"})


def test_every_tensor_is_loaded_and_the_rest_reported(monkeypatch):
    lines = []
    monkeypatch.setattr("mimseg.checkpoints.loader.print_log", lambda text, *_: lines.append(text))
    net, state = model(), weights()
    del state["norm.num_batches_tracked"]  # torch sets it
    report = load(net, state | {"neck.weight": torch.ones(1)})
    assert all(torch.equal(net.state_dict()[name], value) for name, value in state.items())
    assert report.unexpected == ("neck.weight",) and not report.missing
    assert lines == [str(report)] and "unexpected, left out: 1: neck.weight" in lines[0]


def test_the_models_own_hook_resizes_positions():
    net, state = model(img_size=24), weights(img_size=16)
    assert load(net, state).resized == ("backbone.pos_embed",)
    assert load_start(net, state, "a.pth", "load_from").resized == ("backbone.pos_embed",)
    assert torch.equal(net.backbone.pos_embed[:, 0], state["backbone.pos_embed"][:, 0])


@pytest.mark.parametrize("name, reason", [("head.bias", "NaN"), ("backbone.ln1.bias", "infinity")])
def test_weights_that_are_not_finite_are_refused(name, reason):
    state = weights()
    state[name][0] = math.nan if reason == "NaN" else math.inf
    for loader in (load, lambda net, state: load_start(net, state, "a.pth", "load_from")):
        with pytest.raises(UserError, match=f"NaN or infinity in {name}.*diverged"):
            loader(model(), state)


def test_what_does_not_fit_is_named():
    state = weights()
    del state["head.bias"]
    with pytest.raises(UserError, match="1 are missing, the first head.bias.*name another"):
        load(model(), state)
    with pytest.raises(UserError, match="model's shapes .*head.weight"):
        load(model(classes=4), weights())


def test_the_reports_pictures_use_the_same_loader(tmp_path):
    """It once passed over shapes with torch's own error, and over NaN without a word."""
    config = Config(dict(model=dict(type="mimseg.ViT", arch=ARCH, img_size=16, patch_size=4)))
    state = ViT(ARCH, img_size=16, patch_size=4).state_dict()
    state = {name: torch.ones_like(value) for name, value in state.items()}
    path = tmp_path / "a.pth"
    torch.save({"state_dict": state}, path)
    net = load_model(config, path)
    assert not net.training and torch.equal(net.ln1.bias, state["ln1.bias"])
    for value, reason in ((torch.full((16,), math.nan), "NaN"), (torch.ones(3), "ln1.bias")):
        torch.save({"state_dict": state | {"ln1.bias": value}}, path)
        with pytest.raises(UserError, match=f"checkpoint = .*{reason}"):
            load_model(config, path)
