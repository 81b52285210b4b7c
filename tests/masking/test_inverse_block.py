"""Inverse block masks: blocks stay visible, the count is exact."""

import pytest
import torch

from mimseg.errors import UserError
from mimseg.registry import MODELS

CPU = torch.device("cpu")


def masking(**options):
    built = MODELS.build(dict(type="mimseg.InverseBlockMasking", seed=0) | options)
    built.init_weights()
    return built


@pytest.mark.parametrize(
    ("grid", "ratio", "block"), [((14, 14), 0.8, 3), ((16, 16), 0.8, 4), ((6, 9), 0.5, 2)]
)
def test_counts_are_exact(grid, ratio, block):
    made, length = masking(ratio=ratio, block=block, num_masks=3), grid[0] * grid[1]
    mask = made(30, grid, CPU)
    assert mask.shape == (90, length) and mask.dtype == torch.bool
    assert (~mask).sum(1).tolist() == [int(length * (1 - ratio))] * 90
    assert made.num_masked(grid) == length - int(length * (1 - ratio))


@pytest.mark.parametrize("block", [1, 2, 3, 4])
def test_one_square_around_a_centre(block):
    """Where one square is all that is visible, it is one, and it lies anywhere."""
    length, area = 100, block**2
    made = masking(ratio=1 - (area + 0.5) / length, block=block, adjust=0.0)
    assert made.num_centers((10, 10)) == 1
    visible = ~made(3000, (10, 10), CPU).view(-1, 10, 10)
    whole = 0
    for top in range(11 - block):
        for left in range(11 - block):
            whole += visible[:, top : top + block, left : left + block].flatten(1).all(1).sum()
    # The centre is uniform; at the border the square is cut and single patches make up the rest.
    share = ((11 - block) / 10) ** 2
    if block == 1:
        assert whole == 3000
    else:
        assert abs(int(whole) / 3000 - share) < 4 * (share * (1 - share) / 3000) ** 0.5 + 0.002
    assert visible[:, 0, 0].any() and visible[:, -1, -1].any()


def test_visible_patches_lie_together():
    def together(mask):
        visible = ~mask.view(-1, 14, 14)
        pairs = (visible[:, 1:] & visible[:, :-1]).sum() + (
            visible[..., 1:] & visible[..., :-1]
        ).sum()
        return float(pairs) / len(mask)

    scattered = MODELS.build(dict(type="mimseg.RandomMasking", ratio=0.8, seed=0))
    assert together(masking()(200, (14, 14), CPU)) > 2.5 * together(scattered(200, (14, 14), CPU))


def test_seeds():
    assert torch.equal(masking()(4, (8, 8), CPU), masking()(4, (8, 8), CPU))
    assert not torch.equal(masking()(4, (8, 8), CPU), masking(seed=1)(4, (8, 8), CPU))


@pytest.mark.parametrize(
    ("options", "key"),
    [
        (dict(ratio=0.0), "masking.ratio"),
        (dict(block=0), "masking.block"),
        (dict(adjust=-0.1), "masking.adjust"),
        (dict(ratio=0.5, adjust=0.6), "masking.adjust"),
    ],
)
def test_bad_options_are_told(options, key):
    with pytest.raises(UserError, match=key):
        masking(**options)


def test_a_ratio_that_leaves_nothing_visible_is_told():
    with pytest.raises(UserError, match="2x2 grid"):
        masking(ratio=0.8)(1, (2, 2), CPU)
