"""Pyramids: sizes, which map they read, gradients, and bad options."""

import pytest
import torch

from mimseg.errors import UserError
from mimseg.registry import MODELS


def test_simple_feature_pyramid_reads_the_last_map():
    neck = MODELS.build(
        dict(type="mimseg.SimpleFeaturePyramid", in_channels=16, out_channels=8, num_outs=5)
    )
    maps = [torch.randn(2, 16, 6, 4, requires_grad=True) for _ in range(2)]
    outs = neck(maps)
    sizes = [(24, 16), (12, 8), (6, 4), (3, 2), (2, 1)]
    assert [tuple(o.shape) for o in outs] == [(2, 8, *size) for size in sizes]
    torch.testing.assert_close(outs[4], outs[3][:, :, ::2, ::2])
    sum(o.square().sum() for o in outs).backward()
    assert maps[0].grad is None and maps[1].grad.abs().sum() > 0
    assert all(p.grad is not None for p in neck.parameters())


def test_feature_pyramid_keeps_each_map():
    neck = MODELS.build(dict(type="mimseg.FeaturePyramid", in_channels=16))
    maps = [torch.randn(2, 16, 6, 4) for _ in range(4)]
    outs = neck(maps)
    sizes = [(24, 16), (12, 8), (6, 4), (3, 2)]
    assert [tuple(o.shape) for o in outs] == [(2, 16, *size) for size in sizes]
    torch.testing.assert_close(outs[2], maps[2])
    torch.testing.assert_close(outs[3], torch.nn.functional.max_pool2d(maps[3], 2))
    with pytest.raises(UserError, match="out_indices"):
        neck(maps[:2])


def test_bad_options():
    with pytest.raises(UserError, match="neck.scales"):
        MODELS.build(dict(type="mimseg.SimpleFeaturePyramid", in_channels=16, scales=(3,)))
    with pytest.raises(UserError, match="neck.norm"):
        MODELS.build(dict(type="mimseg.FeaturePyramid", in_channels=16, norm="GN"))
