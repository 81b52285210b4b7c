"""Normalizations against their formulas."""

import pytest
import torch
import torch.nn.functional as F

from mimseg.errors import UserError
from mimseg.outputs import TeacherOutput
from mimseg.registry import MODELS


def output(batch=2, with_cls=True, width=8):
    tokens = {0: torch.randn(batch, 6, width), -1: torch.randn(batch, 6, width) * 3 + 1}
    cls = {layer: torch.randn(batch, width) for layer in tokens} if with_cls else {}
    return TeacherOutput((2, 3), tokens=tokens, cls=cls)


def build(name, **options):
    built = MODELS.build(dict(type=f"mimseg.{name}", **options))
    built.bind(8)
    return built


@pytest.mark.parametrize("unbiased", [False, True])
def test_token_layer_norm(unbiased):
    teacher = output()
    built = build("TokenLayerNorm", unbiased=unbiased)
    x = torch.cat([teacher.cls[-1][:, None], teacher.tokens[-1]], 1)
    centred = x - x.mean(-1, keepdim=True)
    var = centred.square().sum(-1, keepdim=True) / (7 if unbiased else 8)
    torch.testing.assert_close(built(teacher), centred / (var + 1e-6).sqrt())
    assert built.needs.layers == {-1}
    back = built.denormalize(built(teacher)[:, 1:], teacher)
    torch.testing.assert_close(back, teacher.tokens[-1], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("final", [False, True])
def test_several_layers_are_normalised_then_averaged(final):
    teacher = output()
    built = build("TokenLayerNorm", layers=(0, -1), final=final)
    parts = [F.layer_norm(teacher.sequence(layer), (8,), eps=1e-6) for layer in (0, -1)]
    expected = (parts[0] + parts[1]) / 2
    if final:
        expected = F.layer_norm(expected, (8,), eps=1e-6)
    torch.testing.assert_close(built(teacher), expected)
    assert built.needs.layers == {0, -1}
    prediction = torch.randn(2, 6, 8)
    assert built.denormalize(prediction, teacher) is prediction


def test_none_leaves_the_tokens_and_half_precision_becomes_float32():
    teacher = TeacherOutput((2, 3), tokens={-1: torch.randn(2, 6, 8).bfloat16()})
    made = build("NoNormalization")(teacher)
    assert made.dtype == torch.float32
    assert torch.equal(made[:, 1:], teacher.tokens[-1].float()) and not made[:, 0].any()


def test_none_hands_on_ids():
    built = build("NoNormalization", layers=(), ids=True)
    teacher = TeacherOutput((1, 3), ids=torch.tensor([[5, 0, 7]]))
    assert built(teacher).tolist() == [[-1, 5, 0, 7]]
    assert built.needs.ids and not built.needs.layers


def test_l2():
    teacher = output(with_cls=False)
    built = build("L2Normalization")
    made = built(teacher)
    x = teacher.tokens[-1]
    torch.testing.assert_close(made[:, 1:], x / x.square().sum(-1, keepdim=True).sqrt())
    assert not made[:, 0].any()  # no CLS token, no direction
    torch.testing.assert_close(built.denormalize(made[:, 1:], teacher), x)


@pytest.mark.parametrize("training", [False, True])
def test_batch_statistics(training):
    teacher = output(batch=4)
    built = build("BatchNormalization").train(training)
    made = built(teacher)
    x, cls = teacher.tokens[-1], teacher.cls[-1]
    expected = F.batch_norm(x.flatten(0, 1), None, None, training=True, eps=1e-6)
    torch.testing.assert_close(made[:, 1:].flatten(0, 1), expected)
    expected = F.batch_norm(cls, None, None, training=True, eps=1e-6)
    torch.testing.assert_close(made[:, 0], expected)
    torch.testing.assert_close(built.denormalize(made[:, 1:], teacher), x, atol=1e-5, rtol=1e-5)
    assert not list(built.parameters()) and not list(built.buffers())


def test_batch_statistics_far_from_zero_and_without_cls():
    x = torch.randn(2, 6, 8)
    built = build("BatchNormalization")
    made = built(TeacherOutput((2, 3), tokens={-1: x + 3000}))
    expected = F.batch_norm(x.flatten(0, 1), None, None, training=True, eps=1e-6)
    torch.testing.assert_close(made[:, 1:].flatten(0, 1), expected, atol=5e-3, rtol=0)
    assert not made[:, 0].any()


def test_softmax():
    teacher = output()
    made = build("SoftmaxNormalization", temperature=0.5)(teacher)
    odds = (teacher.sequence(-1) / 0.5).exp()
    torch.testing.assert_close(made, odds / odds.sum(-1, keepdim=True))
    two = build("SoftmaxNormalization", temperature=0.5, layers=(0, -1))(teacher)
    torch.testing.assert_close(two, (made + (teacher.sequence(0) / 0.5).softmax(-1)) / 2)


def test_the_centre_follows_the_batches():
    built = build("SoftmaxNormalization", temperature=0.1, center_momentum=0.9)
    first, second = output(), output()
    torch.testing.assert_close(built(first), (first.sequence(-1) / 0.1).softmax(-1))
    cls = 0.1 * first.cls[-1].mean(0)
    patches = 0.1 * first.tokens[-1].mean((0, 1))
    centre = torch.stack([cls] + [patches] * 6)
    torch.testing.assert_close(built(second), ((second.sequence(-1) - centre) / 0.1).softmax(-1))
    patches = 0.9 * patches + 0.1 * second.tokens[-1].mean((0, 1))
    torch.testing.assert_close(built.center[0, 1], patches)

    built.eval()
    before = built.center.clone()
    built(first)
    assert torch.equal(built.center, before)

    again = build("SoftmaxNormalization", temperature=0.1, center_momentum=0.9).eval()
    again.load_state_dict(built.state_dict())
    assert torch.equal(again(second), built(second)) and again.center.any()


def test_each_layer_has_its_centre():
    built = build("SoftmaxNormalization", center_momentum=0.0, layers=(0, -1))
    teacher = output()
    built(teacher)
    for place, layer in enumerate((0, -1)):
        torch.testing.assert_close(built.center[place, 1], teacher.tokens[layer].mean((0, 1)))
        torch.testing.assert_close(built.center[place, 0], teacher.cls[layer].mean(0))


@pytest.mark.parametrize(
    "options", [dict(temperature=0.0), dict(center_momentum=1.0), dict(center_momentum=-0.1)]
)
def test_bad_softmax_options_are_told(options):
    with pytest.raises(UserError, match=f"normalization.{next(iter(options))}"):
        build("SoftmaxNormalization", **options)
