"""`--init` and `init_cfg` take the files of other codes directly."""

import pytest
import torch
from mmengine.config import Config

from mimseg.checkpoints.families import HF, MAE
from mimseg.engine.prepare import use_init
from mimseg.errors import UserError
from mimseg.registry import MODELS

ARCH = dict(embed_dims=16, num_layers=2, num_heads=2, feedforward_channels=32)
VIT = dict(type="mimseg.ViT", arch=ARCH, img_size=16, patch_size=4, pos_embed="learned")


class Options:
    """Stands for the argparse.Namespace of many released files."""


@pytest.fixture
def weights():
    torch.manual_seed(5)
    state = MODELS.build(VIT).state_dict()
    return {f"backbone.{name}": torch.randn_like(value) for name, value in state.items()}


def built(cfg):
    model = MODELS.build(cfg.model.backbone)
    model.init_weights()
    return {f"backbone.{name}": value for name, value in model.state_dict().items()}


def assert_same(found, weights):
    assert found.keys() == weights.keys()
    assert all(torch.equal(found[name], value) for name, value in weights.items())


@pytest.mark.parametrize("names", [MAE, HF])
def test_official_files(names, weights, tmp_path):
    torch.save({"model": names.to_theirs(weights)}, tmp_path / "official.pth")
    cfg = Config(dict(model=dict(backbone=VIT)))
    use_init(cfg, str(tmp_path / "official.pth"))
    assert_same(built(cfg), weights)
    checkpoint = dict(type="Pretrained", checkpoint=str(tmp_path / "official.pth"))
    assert_same(built(Config(dict(model=dict(backbone=VIT | dict(init_cfg=checkpoint))))), weights)


def test_what_cannot_be_is_told_before_anything_is_built(weights, tmp_path):
    state = MAE.to_theirs(weights) | {"reg_token": torch.zeros(1, 4, 16)}
    torch.save({"model": state}, tmp_path / "official.pth")
    with pytest.raises(UserError, match="--init.*official.pth.*reg_token"):
        use_init(Config(dict(model=dict(backbone=VIT))), str(tmp_path / "official.pth"))


def test_code_is_run_only_where_trusted(weights, tmp_path):
    path = str(tmp_path / "official.pth")
    torch.save({"model": MAE.to_theirs(weights), "args": Options()}, path)
    cfg = Config(dict(model=dict(backbone=VIT)))
    with pytest.raises(UserError, match="Options.*mimseg convert IN OUT.safetensors --trust"):
        use_init(cfg, path)
    cfg.model.backbone.init_cfg = dict(trust=True)  # as --cfg-options sets it
    use_init(cfg, path)
    assert_same(built(cfg), weights)


def test_trusted_code_that_is_not_here_is_told(weights, tmp_path, monkeypatch):
    path = str(tmp_path / "official.pth")
    torch.save({"model": MAE.to_theirs(weights), "args": Options()}, path)
    monkeypatch.delitem(globals(), "Options")
    cfg = Config(dict(model=dict(backbone=VIT | dict(init_cfg=dict(trust=True)))))
    with pytest.raises(UserError, match="code can be imported.*Options.*PYTHONPATH"):
        use_init(cfg, path)
