"""Losses against their formulas, gradients included."""

import pytest
import torch
import torch.nn.functional as F

from mimseg.errors import UserError
from mimseg.registry import MODELS


def build(name, **options):
    return MODELS.build(dict(type=f"mimseg.{name}", **options))


def pair(*shape):
    return torch.randn(*shape, requires_grad=True), torch.randn(*shape)


@pytest.mark.parametrize("beta", [0.5, 2.0])
def test_smooth_l1(beta):
    prediction, target = pair(5, 7)
    loss = build("SmoothL1Loss", beta=beta)(prediction, target)
    gap = (prediction - target).detach()
    expected = torch.where(gap.abs() < beta, gap**2 / (2 * beta), gap.abs() - beta / 2).mean(1)
    torch.testing.assert_close(loss, expected)
    loss.sum().backward()
    torch.testing.assert_close(prediction.grad, (gap / beta).clamp(-1, 1) / 7)


def test_l2():
    prediction, target = pair(5, 7)
    loss = build("L2Loss")(prediction, target)
    torch.testing.assert_close(loss, ((prediction - target) ** 2).sum(1) / 7)
    loss.sum().backward()
    torch.testing.assert_close(prediction.grad, 2 * (prediction - target).detach() / 7)


def test_l1():
    prediction, target = pair(5, 7)
    loss = build("L1Loss")(prediction, target)
    torch.testing.assert_close(loss, (prediction - target).abs().sum(1) / 7)
    loss.sum().backward()
    torch.testing.assert_close(prediction.grad, (prediction - target).detach().sign() / 7)


@pytest.mark.parametrize("scale", [1.0, 2.0])
def test_cosine(scale):
    prediction, target = pair(5, 7)
    loss = build("CosineLoss", scale=scale)(prediction, target)
    p, t = prediction.detach(), target
    length, unit = p.norm(dim=1, keepdim=True), t / t.norm(dim=1, keepdim=True)
    cosine = (p / length * unit).sum(1, keepdim=True)
    torch.testing.assert_close(loss, scale * (1 - cosine[:, 0]))
    loss.sum().backward()
    gradient = -scale * (unit - cosine * p / length) / length
    torch.testing.assert_close(prediction.grad, gradient)


def test_scale_two_is_the_squared_distance_at_unit_length():
    prediction, target = pair(5, 7)
    gap = F.normalize(prediction, dim=1) - F.normalize(target, dim=1)
    loss = build("CosineLoss", scale=2.0)(prediction, target)
    torch.testing.assert_close(loss, gap.square().sum(1))


@pytest.mark.parametrize("temperature", [1.0, 0.1])
def test_cross_entropy_with_ids(temperature):
    prediction, ids = torch.randn(5, 7, requires_grad=True), torch.tensor([0, 6, 3, 3, 1])
    loss = build("CrossEntropyLoss", temperature=temperature)(prediction, ids)
    odds = (prediction.detach() / temperature).exp()
    share = odds / odds.sum(1, keepdim=True)
    torch.testing.assert_close(loss, -share[range(5), ids].log())
    loss.sum().backward()
    torch.testing.assert_close(prediction.grad, (share - F.one_hot(ids, 7)) / temperature)


def test_cross_entropy_with_distributions():
    prediction, target = torch.randn(5, 7, requires_grad=True), torch.rand(5, 7).softmax(1)
    loss = build("CrossEntropyLoss")(prediction, target)
    share = prediction.detach().exp() / prediction.detach().exp().sum(1, keepdim=True)
    torch.testing.assert_close(loss, -(target * share.log()).sum(1))
    loss.sum().backward()
    torch.testing.assert_close(prediction.grad, share - target)


@pytest.mark.parametrize("soft", [False, True])
def test_several_predictions_a_position_are_averaged(soft):
    loss = build("CrossEntropyLoss")
    prediction = torch.randn(5, 2, 7)
    target = torch.rand(5, 7).softmax(1) if soft else torch.randint(7, (5,))
    expected = (loss(prediction[:, 0], target) + loss(prediction[:, 1], target)) / 2
    torch.testing.assert_close(loss(prediction, target), expected)


def test_an_id_below_zero_is_an_error():
    with pytest.raises((IndexError, RuntimeError)):
        build("CrossEntropyLoss")(torch.randn(2, 3), torch.tensor([-1, 0]))


def test_info_nce():
    prediction, target = pair(5, 7)
    loss = build("InfoNCELoss", temperature=0.2)(prediction, target)
    expected = []
    for n in range(5):
        cosines = torch.stack([F.cosine_similarity(prediction[n], t, dim=0) for t in target])
        odds = (cosines / 0.2).exp()
        expected.append(-(odds[n] / odds.sum()).log())
    torch.testing.assert_close(loss, torch.stack(expected))
    (gradient,) = torch.autograd.grad(torch.stack(expected).sum(), prediction)
    loss.sum().backward()
    torch.testing.assert_close(prediction.grad, gradient)


def test_relation_kl():
    prediction, target = pair(5, 2, 3, 6)  # N, relations, heads, keys
    loss = build("RelationKLLoss")(prediction, target)
    p, t = prediction.detach().softmax(-1), target.softmax(-1)
    divergence = (t * (t / p).log()).sum(-1)  # N, R, heads
    torch.testing.assert_close(loss, (divergence.sum(2) / 3).sum(1))
    loss.sum().backward()
    torch.testing.assert_close(prediction.grad, (p - t) / 3)
    assert build("RelationKLLoss")(target, target).abs().max() < 1e-6


def test_relation_kl_survives_what_a_softmax_rounds_to_zero():
    prediction = torch.tensor([[[[0.0, 200.0]]]], requires_grad=True)
    loss = build("RelationKLLoss")(prediction, torch.zeros(1, 1, 1, 2))
    torch.testing.assert_close(loss, torch.tensor([100 - 2 * 0.5 * torch.log(torch.tensor(2.0))]))
    loss.sum().backward()
    torch.testing.assert_close(prediction.grad.flatten(), torch.tensor([-0.5, 0.5]))


@pytest.mark.parametrize("name", ["SmoothL1Loss", "L1Loss", "L2Loss", "CosineLoss"])
def test_extra_axes_are_averaged(name):
    loss, (prediction, target) = build(name), pair(4, 2, 3, 6)
    flat = loss(prediction.flatten(0, 2), target.flatten(0, 2)).reshape(4, 6)
    torch.testing.assert_close(loss(prediction, target), flat.mean(1))


SHAPES = dict.fromkeys(
    ["SmoothL1Loss", "L1Loss", "L2Loss", "CosineLoss", "CrossEntropyLoss", "InfoNCELoss"], (6, 16)
) | {"RelationKLLoss": (6, 2, 3, 16)}


@pytest.mark.parametrize("name", SHAPES)
def test_float32_whatever_comes_in(name):
    """bfloat16 predictions under autocast: the value and gradient that float32 gives."""
    loss = build(name)
    prediction = torch.randn(SHAPES[name]).bfloat16().requires_grad_()
    target = torch.randn(SHAPES[name]).bfloat16()
    whole = prediction.detach().float().requires_grad_()
    expected = loss(whole, target.float())
    with torch.autocast("cpu", torch.bfloat16):
        value = loss(prediction, target)
    assert value.dtype == torch.float32 and value.shape == (6,)
    torch.testing.assert_close(value, expected, rtol=1e-6, atol=1e-6)
    value.sum().backward()
    expected.sum().backward()
    torch.testing.assert_close(prediction.grad, whole.grad.bfloat16(), rtol=1e-2, atol=1e-5)


@pytest.mark.parametrize("name", ["CrossEntropyLoss", "InfoNCELoss"])
def test_a_temperature_of_zero_is_told(name):
    with pytest.raises(UserError, match="loss.temperature"):
        build(name, temperature=0.0)


def test_relation_kl_on_tokens_is_told():
    with pytest.raises(UserError, match="RelationHead"):
        build("RelationKLLoss")(*pair(5, 7))
