"""The loss against its formula, gradient included. Run it with `pytest` in this folder."""

import torch
from my_loss import MyLoss


def test_my_loss():
    prediction, target = torch.randn(5, 7, requires_grad=True), torch.randn(5, 7)
    gap = (prediction - target).detach()
    loss = MyLoss()(prediction, target)
    torch.testing.assert_close(loss, torch.log((gap.exp() + (-gap).exp()) / 2).sum(1) / 7)
    loss.sum().backward()
    torch.testing.assert_close(prediction.grad, gap.tanh() / 7)
