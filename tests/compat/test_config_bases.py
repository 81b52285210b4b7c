"""Bases of other toolkits, and of ours by name, in a config's `_base_`."""

import pytest
from mmengine.config import Config

import mimseg  # noqa: F401  mends the lookup


@pytest.mark.parametrize(
    "base, scope",
    [
        ("mmseg::_base_/models/upernet_vit-b16_ln_mln.py", "mmseg"),
        ("mmdet::_base_/models/mask-rcnn_r50_fpn.py", "mmdet"),
    ],
)
def test_a_base_of_another_toolkit_loads(tmp_path, base, scope):
    config = tmp_path / "config.py"
    config.write_text(f"_base_ = ['{base}']\nmodel = dict(backbone=dict(init_cfg=None))\n")
    model = Config.fromfile(config).model
    assert model._scope_ == scope and model.backbone.init_cfg is None


@pytest.mark.parametrize("suffix", ["", ".py"])
def test_a_base_of_ours_loads_from_anywhere_without_a_scope(tmp_path, suffix):
    name = "mae/mae_vit-mini-p8_1xb64-40e_scenes"
    config = tmp_path / "config.py"
    config.write_text(f"_base_ = 'mimseg::{name}{suffix}'\ntrain_cfg = dict(max_epochs=3)\n")
    expected = mimseg.config(name)
    expected.train_cfg.max_epochs = 3
    assert Config.fromfile(config).to_dict() == expected.to_dict()


def test_a_part_of_ours_is_a_base_and_a_slip_names_what_is_near(tmp_path):
    config = tmp_path / "config.py"
    config.write_text("_base_ = ['mimseg::_base_/datasets/scenes_mim.py']\n")
    assert Config.fromfile(config).train_dataloader
    config.write_text("_base_ = ['mimseg::mae/mae_vit-base']\n")
    with pytest.raises(mimseg.UserError, match="Fix: one of mae/mae_vit-base"):
        Config.fromfile(config)
