"""Normalizations against their formulas."""

import pytest
import torch

from mimseg.algorithms.outputs import TeacherOutput
from mimseg.registry import MODELS


def output():
    tokens = {0: torch.randn(2, 6, 8), -1: torch.randn(2, 6, 8) * 3 + 1}
    cls = {layer: torch.randn(2, 8) for layer in tokens}
    return TeacherOutput((2, 3), tokens=tokens, cls=cls)


@pytest.mark.parametrize("unbiased", [False, True])
def test_token_layer_norm(unbiased):
    teacher = output()
    built = MODELS.build(dict(type="mimseg.TokenLayerNorm", unbiased=unbiased))
    x = torch.cat([teacher.cls[-1][:, None], teacher.tokens[-1]], 1)
    centred = x - x.mean(-1, keepdim=True)
    var = centred.square().sum(-1, keepdim=True) / (7 if unbiased else 8)
    torch.testing.assert_close(built(teacher), centred / (var + 1e-6).sqrt())
    assert built.needs.layers == {-1}
    back = built.denormalize(built(teacher)[:, 1:], teacher)
    torch.testing.assert_close(back, teacher.tokens[-1], atol=1e-5, rtol=1e-5)


def test_several_layers_are_normalised_then_averaged():
    teacher = output()
    built = MODELS.build(dict(type="mimseg.TokenLayerNorm", layers=(0, -1)))
    parts = [
        torch.nn.functional.layer_norm(teacher.sequence(layer), (8,), eps=1e-6) for layer in (0, -1)
    ]
    torch.testing.assert_close(built(teacher), (parts[0] + parts[1]) / 2)
    assert built.needs.layers == {0, -1}


def test_none_leaves_the_tokens_and_half_precision_becomes_float32():
    teacher = TeacherOutput((2, 3), tokens={-1: torch.randn(2, 6, 8).bfloat16()})
    made = MODELS.build(dict(type="mimseg.NoNormalization"))(teacher)
    assert made.dtype == torch.float32
    assert torch.equal(made[:, 1:], teacher.tokens[-1].float()) and not made[:, 0].any()
