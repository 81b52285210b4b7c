"""The linear segmentation head against its two lines, on one map and on several."""

import pytest
import torch
import torch.nn.functional as F
from mmengine.registry import DefaultScope

from mimseg.registry import MODELS


@pytest.fixture(autouse=True)
def scope():
    DefaultScope.get_instance("linear head", scope_name="mmseg")


def build(**options):
    loss = dict(type="mmseg.CrossEntropyLoss")
    head = MODELS.build(
        dict(type="mimseg.LinearSegHead", num_classes=5, loss_decode=loss, **options)
    )
    head.init_weights()
    torch.nn.init.normal_(head.norm.weight, 1.0, 0.1)
    return head


def test_several_maps_are_concatenated():
    head = build(in_channels=(6, 4))
    maps = [torch.randn(2, 6, 4, 3), torch.randn(2, 4, 2, 2)]
    x = torch.cat([maps[0], F.interpolate(maps[1], (4, 3), mode="bilinear")], dim=1)
    x = (x - x.mean((0, 2, 3), keepdim=True)) / (
        x.var((0, 2, 3), unbiased=False, keepdim=True) + 1e-5
    ).sqrt()
    x = x * head.norm.weight[:, None, None] + head.norm.bias[:, None, None]
    expected = torch.einsum("bchw,kc->bkhw", x, head.conv_seg.weight[..., 0, 0])
    out = head(maps)
    torch.testing.assert_close(out, expected + head.conv_seg.bias[:, None, None])
    out.square().sum().backward()
    assert all(p.grad is not None for p in head.parameters())
    assert sum(p.numel() for p in head.parameters()) == 10 * 2 + 10 * 5 + 5


def test_one_map_is_the_last_unless_said():
    maps = [torch.randn(2, 6, 4, 3) for _ in range(3)]
    for options, index in (({}, 2), ({"in_index": 1}, 1)):
        head = build(in_channels=6, **options).eval()
        scores = head(maps)
        assert scores.shape == (2, 5, 4, 3)
        torch.testing.assert_close(scores, head.conv_seg(head.norm(maps[index])))
