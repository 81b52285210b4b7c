"""PHI-S against its formula: equal variances, one scale, a rotation in between."""

import pytest
import torch

from mimseg.errors import UserError
from mimseg.normalizations.balance import balancing_rotation, hadamard
from mimseg.outputs import TeacherOutput
from mimseg.registry import MODELS


def build(width=8, **options):
    built = MODELS.build(dict(type="mimseg.PHISNormalization", **options))
    built.bind(width)
    return built


def teacher(width, seed, with_cls=False):
    """Correlated channels of very unequal variance, far from zero."""
    mix = torch.randn(width, width, generator=torch.Generator().manual_seed(1))
    noise = torch.randn(64, 6, width, generator=torch.Generator().manual_seed(seed))
    tokens = noise * torch.logspace(-2, 1, width) @ mix + 5
    return TeacherOutput((2, 3), {-1: tokens}, {-1: tokens[:, 0]} if with_cls else {})


@pytest.mark.parametrize("size", [1, 2, 12, 20, 24, 44, 72, 104, 192, 768])
def test_hadamard_matrices(size):
    built = hadamard(size)
    assert built.abs().eq(1).all()
    torch.testing.assert_close(built @ built.T, size * torch.eye(size))


@pytest.mark.parametrize("size", [3, 6, 10, 52])
def test_widths_without_one_of_ours(size):
    assert hadamard(size) is None


@pytest.mark.parametrize("size", [1, 3, 8, 12, 33, 90])
def test_a_balancing_rotation_is_orthogonal_and_evens_out(size):
    variances = torch.logspace(-4, 2, size, dtype=torch.float64).flip(0)
    rotation = balancing_rotation(variances)
    eye = torch.eye(size, dtype=torch.float64)
    torch.testing.assert_close(rotation @ rotation.T, eye, atol=1e-6, rtol=0)
    after = (rotation @ variances.diag() @ rotation.T).diagonal()
    torch.testing.assert_close(after, variances.mean().expand(size), atol=0, rtol=1e-6)


@pytest.mark.parametrize("width", [8, 12, 15])
def test_every_dimension_has_variance_one_and_distances_keep_their_ratio(width):
    built, data = build(width, warmup_steps=1), teacher(width, 0)
    made = built(data)[:, 1:].flatten(0, 1)
    x = data.tokens[-1].flatten(0, 1)
    torch.testing.assert_close(made.mean(0), torch.zeros(width), atol=1e-4, rtol=0)
    variances = made.var(0, unbiased=False)
    torch.testing.assert_close(variances, torch.ones(width), atol=1e-3, rtol=0)
    ratio = torch.pdist(made) / torch.pdist(x)  # a rotation and one scale: the same everywhere
    torch.testing.assert_close(ratio, ratio.mean().expand_as(ratio), atol=0, rtol=1e-3)
    scale = x.var(0, unbiased=False).mean().sqrt()
    torch.testing.assert_close(1 / ratio.mean(), scale, atol=0, rtol=1e-3)
    back = built.denormalize(made, data)
    torch.testing.assert_close(back, x, atol=1e-3, rtol=1e-4)


def test_statistics_come_from_the_first_batches_and_then_stay():
    built = build(warmup_steps=3)
    batches = [teacher(8, seed, with_cls=True) for seed in range(4)]
    x = batches[0].tokens[-1].flatten(0, 1)
    scale = x.var(0, unbiased=False).mean().sqrt()
    first = built(batches[0])
    torch.testing.assert_close(first, (batches[0].sequence(-1) - x.mean(0)) / scale)  # unturned

    built(batches[1])
    resumed = build(warmup_steps=3)  # stopped in the middle of the warm-up
    resumed.load_state_dict(built.state_dict())
    for module in (built, resumed):
        module.eval()(batches[3])
        assert int(module.steps) == 2
        module.train()(batches[2])
    x = torch.cat([b.tokens[-1].flatten(0, 1) for b in batches[:3]]).double()
    torch.testing.assert_close(built.mean.double(), x.mean(0), atol=1e-5, rtol=1e-5)
    turned = ((x - x.mean(0)) @ built.rotation.double()).T.cov(correction=0).diagonal()
    torch.testing.assert_close(turned.float(), built.scale.square().expand(8), rtol=1e-4, atol=0)

    frozen = {name: value.clone() for name, value in built.state_dict().items()}
    built(batches[3])
    assert all(torch.equal(value, frozen[name]) for name, value in built.state_dict().items())
    last = build(warmup_steps=3)  # resumed after it: nothing is estimated any more
    last.load_state_dict(resumed.state_dict())
    torch.testing.assert_close(last(batches[3]), built(batches[3]))
    assert int(last.steps) == 3


def test_before_any_batch_nothing_changes():
    data = teacher(8, 0)
    assert torch.equal(build().eval()(data)[:, 1:], data.tokens[-1])


def test_float32_under_autocast():
    built, data = build(12, warmup_steps=1), teacher(12, 0)
    expected = built(data)
    with torch.autocast("cpu", torch.bfloat16):
        made = built(data)
    assert made.dtype == torch.float32 and torch.equal(made, expected)


@pytest.mark.parametrize("options", [dict(layers=(0, -1)), dict(warmup_steps=0)])
def test_bad_options_are_told(options):
    with pytest.raises(UserError, match=f"normalization.{next(iter(options))}"):
        build(**options)
