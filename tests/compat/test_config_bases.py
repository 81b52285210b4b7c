"""Bases of other toolkits in a config's `_base_`."""

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
