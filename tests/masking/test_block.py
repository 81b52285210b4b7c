"""Block-wise masks: exact counts, the rule of a block, reproducible."""

import math
import random

import pytest
import torch

from mimseg.errors import UserError
from mimseg.masking.block import BlockMasking
from mimseg.registry import MODELS

CPU = torch.device("cpu")


def masking(**options):
    built = MODELS.build(dict(type="mimseg.BlockMasking", seed=0) | options)
    built.init_weights()
    return built


@pytest.mark.parametrize(
    ("grid", "ratio", "count"),
    [
        ((14, 14), 0.4, 78),
        ((16, 16), 0.4, 102),
        ((14, 14), 75 / 196, 75),
        ((12, 20), 0.4, 96),
        ((4, 4), 0.4, 6),
        ((2, 2), 0.5, 2),
        ((14, 14), 0.9, 176),
        ((1, 6), 0.5, 3),
    ],
)
def test_counts_are_exact(grid, ratio, count):
    made = masking(ratio=ratio, num_masks=2)
    mask = made(20, grid, CPU)
    assert mask.shape == (40, grid[0] * grid[1]) and mask.dtype == torch.bool
    assert mask.sum(1).tolist() == [count] * 40 and made.num_masked(grid) == count
    assert len({tuple(row.tolist()) for row in mask}) > 1


def test_any_count_is_had_as_a_fraction():
    for length in (64, 196, 256, 1024):
        for count in range(1, length):
            assert BlockMasking(count / length).share(length) == count


def by_hand(grid, count, smallest, aspect, most, rng):
    """One mask by the rule as it is told, with loops."""
    masked, bounds = set(), [math.log(bound) for bound in aspect]
    while len(masked) < count:
        left = min(count - len(masked), most or count)
        for _ in range(10):
            area, shape = rng.uniform(smallest, left), math.exp(rng.uniform(*bounds))
            h, w = round((area * shape) ** 0.5), round((area / shape) ** 0.5)
            if h >= grid[0] or w >= grid[1]:
                continue
            top, first = rng.randint(0, grid[0] - h), rng.randint(0, grid[1] - w)
            block = {(y, x) for y in range(top, top + h) for x in range(first, first + w)}
            if 0 < len(block - masked) <= left:
                masked |= block
                break
        else:
            free = [(y, x) for y in range(grid[0]) for x in range(grid[1]) if (y, x) not in masked]
            masked |= set(rng.sample(free, count - len(masked)))
    mask = torch.zeros(grid, dtype=torch.bool)
    mask[tuple(zip(*masked, strict=True))] = True
    return mask


def edges(mask):
    """Neighbouring pairs of which one is masked, for each mask (N, h, w): little in few blocks."""
    down, across = mask[:, 1:] != mask[:, :-1], mask[:, :, 1:] != mask[:, :, :-1]
    return (down.sum((1, 2)) + across.sum((1, 2))).double()


@pytest.mark.parametrize(
    ("grid", "smallest", "aspect", "most"),
    [
        ((10, 10), 9, (0.3, 1 / 0.3), None),
        ((8, 14), 9, (1.0, 3.0), None),
        ((8, 8), 1, (0.5, 2.0), 3),
    ],
)
def test_the_distribution_is_that_of_the_rule(grid, smallest, aspect, most):
    """Within 4.5 standard errors: frequency of every patch, edge lengths."""
    rng = random.Random(0)
    made = masking(min_patches=smallest, aspect=aspect, max_patches=most, scale_min_patches=False)
    ours = made(3000, grid, CPU).view(-1, *grid)
    count = int(0.4 * grid[0] * grid[1])
    rule = [by_hand(grid, count, smallest, aspect, most, rng) for _ in range(800)]
    rule = torch.stack(rule)
    for measure in (edges, lambda mask: mask.flatten(1).double()):
        a, b = measure(ours), measure(rule)
        error = (a.var(0) / len(a) + b.var(0) / len(b)).sqrt()
        assert ((a.mean(0) - b.mean(0)).abs() <= 4.5 * error).all()


def test_min_patches_follows_small_grids_alone():
    made = masking()
    areas = [made.smallest_area(grid) for grid in ((2, 2), (8, 8), (12, 12), (14, 14), (16, 16))]
    assert areas == [1, 5, 12, 16, 16]
    assert masking(scale_min_patches=False).smallest_area((8, 8)) == 16
    # On 8x8 a minimum of 16 of 25 patches leaves nearly one block; 5 gives several.
    few = edges(masking(scale_min_patches=False)(500, (8, 8), CPU).view(-1, 8, 8)).mean()
    assert edges(made(500, (8, 8), CPU).view(-1, 8, 8)).mean() > 1.15 * few


def test_max_patches_limits_a_block():
    """Blocks of 4 patches at most, out of 98, leave longer edges than free ones."""
    free = edges(masking(ratio=0.5, min_patches=1)(200, (14, 14), CPU).view(-1, 14, 14)).mean()
    small = masking(ratio=0.5, min_patches=1, max_patches=4)
    mask = small(200, (14, 14), CPU)
    assert mask.sum(1).tolist() == [98] * 200
    assert edges(mask.view(-1, 14, 14)).mean() > 1.3 * free


def test_seeds():
    first, second = masking(seed=5), masking(seed=5)
    for _ in range(2):
        assert torch.equal(first(4, (8, 8), CPU), second(4, (8, 8), CPU))
    assert not torch.equal(masking(seed=5)(4, (8, 8), CPU), masking(seed=6)(4, (8, 8), CPU))
    resumed = masking(seed=1)
    resumed.load_state_dict(first.state_dict())
    assert torch.equal(first(4, (8, 8), CPU), resumed(4, (8, 8), CPU))


@pytest.mark.parametrize(
    ("options", "key"),
    [
        (dict(ratio=1.0), "masking.ratio"),
        (dict(min_patches=0), "masking.min_patches"),
        (dict(max_patches=0), "masking.max_patches"),
        (dict(aspect=(2.0, 0.5)), "masking.aspect"),
        (dict(aspect=(0.0, 0.5)), "masking.aspect"),
    ],
)
def test_bad_options_are_told(options, key):
    with pytest.raises(UserError, match=key):
        masking(**options)


def test_a_ratio_that_masks_nothing_is_told():
    with pytest.raises(UserError, match="masking.ratio = 0.4.*1x2 grid"):
        masking()(1, (1, 2), CPU)
