"""Losses against their formulas, gradients included."""

import pytest
import torch

from mimseg.registry import MODELS


@pytest.mark.parametrize("beta", [0.5, 2.0])
def test_smooth_l1(beta):
    prediction, target = torch.randn(5, 7, requires_grad=True), torch.randn(5, 7)
    loss = MODELS.build(dict(type="mimseg.SmoothL1Loss", beta=beta))(prediction, target)
    gap = (prediction - target).detach()
    expected = torch.where(gap.abs() < beta, gap**2 / (2 * beta), gap.abs() - beta / 2).mean(1)
    torch.testing.assert_close(loss, expected)
    loss.sum().backward()
    torch.testing.assert_close(prediction.grad, (gap / beta).clamp(-1, 1) / 7)


def test_l2():
    prediction, target = torch.randn(5, 7, requires_grad=True), torch.randn(5, 7)
    loss = MODELS.build(dict(type="mimseg.L2Loss"))(prediction, target)
    torch.testing.assert_close(loss, ((prediction - target) ** 2).sum(1) / 7)
    loss.sum().backward()
    torch.testing.assert_close(prediction.grad, 2 * (prediction - target).detach() / 7)


@pytest.mark.parametrize("name", ["SmoothL1Loss", "L2Loss"])
def test_float32_whatever_comes_in(name):
    loss = MODELS.build(dict(type=f"mimseg.{name}"))
    half = torch.randn(2, 3).bfloat16()
    assert loss(half, half + 1).dtype == torch.float32
