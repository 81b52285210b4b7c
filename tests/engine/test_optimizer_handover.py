"""Moments of an earlier stage fit, or are refused before the first step."""

import logging
from types import SimpleNamespace

import pytest
import torch

from mimseg.engine.optimizer_handover_hook import OptimizerHandoverHook
from mimseg.errors import UserError


def stepped(width):
    model = torch.nn.Linear(width, 2)
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.ones(1, width)).sum().backward()
    optimizer.step()
    return optimizer


def hand_over(tmp_path, optimizer):
    torch.save({"optimizer": stepped(4).state_dict()}, tmp_path / "stage1.pth")
    wrapper = SimpleNamespace(optimizer=optimizer)
    runner = SimpleNamespace(iter=0, optim_wrapper=wrapper, logger=logging.getLogger())
    OptimizerHandoverHook(str(tmp_path / "stage1.pth")).before_train(runner)


def test_same_shapes(tmp_path):
    model = torch.nn.Linear(4, 2)
    optimizer = torch.optim.AdamW(model.parameters())
    hand_over(tmp_path, optimizer)
    assert optimizer.state[model.weight]["exp_avg"].shape == (2, 4)


def test_another_width(tmp_path):
    optimizer = torch.optim.AdamW(torch.nn.Linear(8, 2).parameters())
    with pytest.raises(UserError, match=r"stages.optimizer.*\(2, 4\) there and \(2, 8\) here"):
        hand_over(tmp_path, optimizer)
    assert not optimizer.state
