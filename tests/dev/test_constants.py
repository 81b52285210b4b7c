"""What a constant prediction costs, against formulas written here and against other constants."""

import math

import pytest
import torch
import torch.nn.functional as F

from dev.methods.constants import best_constant, comparable, mean_target, variation
from mimseg.registry import MODELS


def make(name, **options):
    return MODELS.build(dict(type=f"mimseg.{name}", **options))


def cost(loss, constant, targets):
    return float(loss(constant.expand(len(targets), *constant.shape), targets).mean())


@pytest.mark.parametrize(
    ("name", "options"),
    [("L2Loss", {}), ("L1Loss", {}), ("SmoothL1Loss", dict(beta=0.5)), ("CosineLoss", {})],
)
def test_no_other_constant_costs_less(name, options):
    loss, targets = make(name, **options), torch.randn(301, 5).exp() - 1  # skewed: median != mean
    best = best_constant(loss, targets, 5)
    least = cost(loss, best, targets)
    assert least <= cost(loss, mean_target(loss, targets, 5), targets) + 1e-6
    for _ in range(30):
        assert least <= cost(loss, best + 0.05 * torch.randn(5), targets) + 1e-6
    if name != "L2Loss":
        assert least < cost(loss, targets.mean(0), targets) - 1e-4


def test_the_mean_target_of_values_is_the_mean():
    targets = torch.randn(50, 3)
    for name in ("L2Loss", "L1Loss", "SmoothL1Loss"):
        torch.testing.assert_close(mean_target(make(name), targets, 3), targets.mean(0))
    loss = make("L2Loss")
    expected = float(targets.var(0, unbiased=False).mean())
    assert cost(loss, targets.mean(0), targets) == pytest.approx(expected, rel=1e-5)


def test_cross_entropy_costs_the_entropy():
    ids = torch.tensor([0] * 6 + [1] * 3 + [3])
    share = torch.tensor([0.6, 0.3, 0.1])
    entropy = float(-(share * share.log()).sum())
    for temperature in (1.0, 0.2):
        loss = make("CrossEntropyLoss", temperature=temperature)
        constant = mean_target(loss, ids, 5)
        assert cost(loss, constant, ids) == pytest.approx(entropy, rel=1e-5)
        # two predictions a position, as BEiT v2 has
        assert cost(loss, constant.expand(2, -1), ids) == pytest.approx(entropy, rel=1e-5)
    soft = torch.randn(20, 4).softmax(-1)
    mean = soft.mean(0)
    constant = mean_target(loss, soft, 4)
    assert cost(loss, constant, soft) == pytest.approx(float(-(mean * mean.log()).sum()), rel=1e-5)


def test_relations_cost_the_divergence_from_the_mean_relation():
    loss, logits = make("RelationKLLoss"), torch.randn(40, 2, 3, 7)
    p = logits.softmax(-1)
    expected = (p * (p / p.mean(0)).log()).sum(-1).mean(2).sum(1).mean()
    constant = mean_target(loss, logits, 7)
    assert cost(loss, constant, logits) == pytest.approx(float(expected), rel=1e-4)


def test_info_nce_costs_the_logarithm_of_the_candidates():
    loss, targets = make("InfoNCELoss"), torch.randn(33, 6)
    assert cost(loss, mean_target(loss, targets, 6), targets) == pytest.approx(math.log(33))
    assert cost(loss, torch.randn(6), targets) > math.log(33)


def test_variation_is_over_the_tokens_of_an_image():
    rows = torch.tensor([4, 4, 4, 7, 7])
    values = torch.randn(5, 3)
    residual = torch.cat([values[:3] - values[:3].mean(0), values[3:] - values[3:].mean(0)])
    assert variation(values, rows) == pytest.approx(float(residual.square().mean().sqrt()))
    constant = torch.randn(8, 1)[rows].expand(5, 3)  # images differ, tokens do not
    assert variation(constant, rows) < 1e-6
    alone = torch.arange(5)  # a position an image: CLS
    expected = float(values.var(0, unbiased=False).mean().sqrt())
    assert variation(values, alone) == pytest.approx(expected)


def test_predictions_and_targets_on_one_scale():
    logits, ids = torch.randn(6, 2, 4), torch.tensor([0, 1, 2, 3, 0, 1])
    ours, theirs = comparable(make("CrossEntropyLoss", temperature=0.5), logits, ids, 4)
    torch.testing.assert_close(ours, (logits / 0.5).softmax(-1).mean(1))
    torch.testing.assert_close(theirs, F.one_hot(ids, 4).float())
    prediction, target = torch.randn(6, 4), 9 * torch.randn(6, 4)
    ours, theirs = comparable(make("CosineLoss"), prediction, target, 4)
    torch.testing.assert_close(theirs.norm(dim=1), torch.ones(6))
    assert comparable(make("L2Loss"), prediction, target, 4)[1] is target
