"""Heads that read the student's token at each position: linear and MLP."""

import pytest
import torch
import torch.nn.functional as F

from mimseg.errors import UserError
from mimseg.heads.base import Setting
from mimseg.registry import MODELS


def build(name="LinearHead", **options):
    head = MODELS.build(
        dict(type=f"mimseg.{name}", in_channels=48, out_channels=5, **options),
    )
    head.init_weights()
    return head


def test_predictions_stand_at_their_positions(tiny_vit):
    model = tiny_vit(mask_mode="token")
    mask = torch.zeros(2, 16, dtype=torch.bool)
    mask[:, 3] = True
    student = model.encode(torch.randn(2, 3, 32, 32), mask)
    head = build()
    out = head(student, torch.tensor([0, 4, 17 + 4]))  # CLS and patch 3 of row 0, patch 3 of row 1
    rows = torch.stack([student.cls[0], student.tokens[0, 3], student.tokens[1, 3]])
    torch.testing.assert_close(out, rows @ head.projection.weight.T)
    out.sum().backward()
    assert model.mask_token.grad.abs().sum() > 0


def test_visible_positions_of_a_student_that_dropped_the_others(tiny_vit):
    model = tiny_vit(mask_mode="drop")
    mask = torch.ones(2, 16, dtype=torch.bool)
    mask[0, [2, 9, 15]] = False
    mask[1, [0, 4, 7]] = False
    student = model.encode(torch.randn(2, 3, 32, 32), mask)
    head = build()
    out = head(student, torch.tensor([0, 1 + 9, 17 + 1 + 0, 17 + 1 + 7]))
    rows = [student.cls[0], student.tokens[0, 1], student.tokens[1, 0], student.tokens[1, 2]]
    torch.testing.assert_close(out, torch.stack(rows) @ head.projection.weight.T)
    out.sum().backward()
    assert model.patch_embed.projection.weight.grad.abs().sum() > 0


@pytest.mark.parametrize("name", ["LinearHead", "MLPHead"])
def test_dropped_patches_are_refused_when_built(tiny_vit, name):
    head, drops, keeps = build(name), tiny_vit(mask_mode="drop"), tiny_vit(mask_mode="token")
    for positions in ("masked", "all"):
        with pytest.raises(UserError, match="DecoderHead"):
            head.check(Setting(drops, positions, masked=True))
        head.check(Setting(keeps, positions, masked=True))
        head.check(Setting(drops, positions, masked=False))
    head.check(Setting(drops, "visible", masked=True))
    head.check(Setting(drops, "cls", masked=True))


@pytest.mark.parametrize("depth", [2, 3])
def test_mlp(tiny_vit, depth):
    student = tiny_vit().encode(torch.randn(2, 3, 32, 32))
    head = build("MLPHead", hidden=7, depth=depth)
    positions = torch.tensor([3, 20])
    out = head(student, positions)
    x = torch.stack([student.tokens[0, 2], student.tokens[1, 2]])
    linear = [m for m in head.modules() if isinstance(m, torch.nn.Linear)]
    assert [m.out_features for m in linear] == [7] * (depth - 1) + [5]
    for layer in linear[:-1]:
        x = F.gelu(x @ layer.weight.T + layer.bias)
    torch.testing.assert_close(out, x @ linear[-1].weight.T + linear[-1].bias)
    out.sum().backward()
    assert all(p.grad.abs().sum() > 0 for p in head.parameters())


def test_an_mlp_of_one_layer_is_told():
    with pytest.raises(UserError, match="head.depth"):
        build("MLPHead", depth=1)
