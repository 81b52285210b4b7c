"""The linear head picks positions and projects them."""

import torch

from mimseg.registry import MODELS


def test_predictions_stand_at_their_positions(tiny_vit):
    model = tiny_vit(mask_mode="token")
    mask = torch.zeros(2, 16, dtype=torch.bool)
    mask[:, 3] = True
    student = model.encode(torch.randn(2, 3, 32, 32), mask)
    head = MODELS.build(dict(type="mimseg.LinearHead", in_channels=48, out_channels=5))
    head.init_weights()
    out = head(student, torch.tensor([0, 4, 17 + 4]))  # CLS and patch 3 of row 0, patch 3 of row 1
    rows = torch.stack([student.cls[0], student.tokens[0, 3], student.tokens[1, 3]])
    torch.testing.assert_close(out, rows @ head.projection.weight.T)
    out.sum().backward()
    assert model.mask_token.grad.abs().sum() > 0
