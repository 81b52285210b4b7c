"""What predicting the mean target costs, against formulas written here."""

import math

import pytest
import torch

from dev.methods.measure import mean_target
from mimseg.registry import MODELS


def make(name, **options):
    return MODELS.build(dict(type=f"mimseg.{name}", **options))


def cost(loss, constant, targets):
    return float(loss(constant.expand(len(targets), *constant.shape), targets).mean())


def test_the_mean_target_of_values_is_the_mean():
    targets = torch.randn(50, 3)
    for name in ("L2Loss", "L1Loss", "SmoothL1Loss", "CosineLoss"):
        torch.testing.assert_close(mean_target(make(name), targets, 3), targets.mean(0))
    expected = float(targets.var(0, unbiased=False).mean())
    assert cost(make("L2Loss"), targets.mean(0), targets) == pytest.approx(expected, rel=1e-5)


def test_cross_entropy_costs_the_entropy():
    ids = torch.tensor([0] * 6 + [1] * 3 + [3])
    share = torch.tensor([0.6, 0.3, 0.1])
    entropy = float(-(share * share.log()).sum())
    for temperature in (1.0, 0.2):
        loss = make("CrossEntropyLoss", temperature=temperature)
        constant = mean_target(loss, ids, 5)
        assert cost(loss, constant, ids) == pytest.approx(entropy, rel=1e-5)
        # two predictions per position, as BEiT v2 has
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
