"""Random masks: exact counts, uniform, reproducible."""

import pytest
import torch

from mimseg.errors import UserError
from mimseg.registry import MODELS


def masking(**options):
    built = MODELS.build(dict(type="mimseg.RandomMasking") | options)
    built.init_weights()
    return built


@pytest.mark.parametrize(
    ("grid", "ratio", "count"),
    [((14, 14), 0.75, 147), ((16, 16), 0.4, 103), ((20, 20), 0.8, 320), ((10, 10), 0.9, 90)],
)
def test_counts_are_exact(grid, ratio, count):
    mask = masking(ratio=ratio, seed=0, num_masks=2)(5, grid, torch.device("cpu"))
    assert mask.shape == (10, grid[0] * grid[1]) and mask.dtype == torch.bool
    assert mask.sum(1).tolist() == [count] * 10
    assert len({tuple(row.tolist()) for row in mask}) == 10


def test_every_patch_is_as_likely():
    made = masking(ratio=0.75, seed=0)
    share = made(4000, (4, 4), torch.device("cpu")).float().mean(0)
    assert share.sub(0.75).abs().max() < 0.03  # four standard deviations


def test_seeds():
    cpu = torch.device("cpu")
    first, second = masking(seed=5), masking(seed=5)
    for _ in range(3):
        assert torch.equal(first(4, (6, 6), cpu), second(4, (6, 6), cpu))
    assert not torch.equal(masking(seed=5)(4, (6, 6), cpu), masking(seed=6)(4, (6, 6), cpu))
    torch.manual_seed(1)
    drawn = masking()
    torch.manual_seed(2)
    assert int(drawn.seed) != int(masking().seed)
    torch.manual_seed(7)
    before = torch.rand(1)
    torch.manual_seed(7)
    first(4, (6, 6), cpu)  # leaves the global generator alone
    assert torch.equal(torch.rand(1), before)


def test_a_ratio_that_leaves_nothing_is_told():
    with pytest.raises(UserError, match="masking.ratio"):
        masking(ratio=0.0)
    with pytest.raises(UserError, match="2x2 grid"):
        masking(ratio=0.95)(1, (2, 2), torch.device("cpu"))


def test_units_are_masked_as_a_whole():
    made = masking(ratio=0.6, seed=0, unit=2)  # SimMIM at 192 px: 22 of 36 squares of 2x2 patches
    mask = made(50, (12, 12), torch.device("cpu"))
    assert made.num_masked((12, 12)) == 88 and mask.sum(1).tolist() == [88] * 50
    units = mask.view(50, 6, 2, 6, 2).permute(0, 1, 3, 2, 4).flatten(3).float().mean(3)
    assert set(units.unique().tolist()) == {0.0, 1.0}
    assert units.mean(0).sub(22 / 36).abs().max() < 0.3  # four standard deviations


def test_a_unit_that_does_not_fit_is_told():
    with pytest.raises(UserError, match="masking.unit = 4.*14x14"):
        masking(unit=4)(1, (14, 14), torch.device("cpu"))
    with pytest.raises(UserError, match="masking.unit"):
        masking(unit=0)
    with pytest.raises(UserError, match="masking.ratio"):  # of four units, none is left
        masking(ratio=0.8, unit=2)(1, (4, 4), torch.device("cpu"))


def test_the_numbers_drawn_do_not_depend_on_the_batch_of_another_call():
    cpu = torch.device("cpu")
    first, second = masking(seed=5), masking(seed=5)
    first(4, (6, 6), cpu)
    second(40, (6, 6), cpu)
    assert torch.equal(first(4, (6, 6), cpu), second(4, (6, 6), cpu))
