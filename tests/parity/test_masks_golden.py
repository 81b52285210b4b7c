"""BEiT v2's block masks: the same distribution as the official generator's.

The order of random numbers is not the official one, so masks are compared by what the case's
statistics tell of them: each is the mean of one value a mask, over `n` official masks and over
ours. The standard error of their difference follows from the spread of our values and both
numbers of masks. 4.5 of these: one false alarm in about 150 000 comparisons.

Not compared: the statistics named OLD_*, which are of dBOT's older generator without exact counts.
"""

import re

import pytest
import torch
import torch.nn.functional as F
from golden import Case, needs_golden

from mimseg.registry import MODELS

NAME = "beit2_block_masks"
OURS = 4000
ERRORS = 4.5
CPU = torch.device("cpu")


def grids(case):
    """Tensor's name -> grid and count, which the name tells: out/mask_14x14_75."""
    keys = [key for key in case.case["tensors"] if key.startswith("out/")]
    found = {key: re.fullmatch(r"out/mask_(\d+)x(\d+)_(\d+)", key) for key in keys}
    assert found and all(found.values()), found
    return {key: tuple(int(n) for n in match.groups()) for key, match in found.items()}


def our_masks(case, height, width, count):
    made = MODELS.build(
        dict(
            type="mimseg.BlockMasking",
            ratio=count / (height * width),
            min_patches=case.h["min_num_patches"],
            max_patches=case.h["max_num_patches"],
            aspect=(case.h["min_aspect"], case.h["max_aspect"]),
            scale_min_patches=False,  # the official generator knows no grid
        )
    )
    made.init_weights()
    return made(OURS, (height, width), CPU).view(OURS, height, width)


def neighbours(maps):
    """What lies below, above, right and left of each place of (N, h, w); 0 outside."""
    maps = F.pad(maps, (1, 1, 1, 1))
    return maps[:, 2:, 1:-1], maps[:, :-2, 1:-1], maps[:, 1:-1, 2:], maps[:, 1:-1, :-2]


def components(mask):
    """4-connected components of each mask (N, h, w): the highest label spreads within each."""
    labels = torch.arange(1.0, mask[0].numel() + 1).view(mask.shape[1:]) * mask
    start = labels
    while True:
        padded = F.pad(labels, (1, 1, 1, 1))
        near = (
            padded[:, 2:, 1:-1],
            padded[:, :-2, 1:-1],
            padded[:, 1:-1, 2:],
            padded[:, 1:-1, :-2],
        )
        spread = torch.stack((labels, *near)).amax(0) * mask
        if torch.equal(spread, labels):
            return ((labels == start) & mask).sum((1, 2))
        labels = spread


def statistics(mask):
    """The case's measures, one value a mask (N, h, w)."""
    n, height, width = mask.shape
    near = torch.stack(neighbours(mask)).any(0)
    centre = mask[:, height // 2 - 1 : height // 2 + 1, width // 2 - 1 : width // 2 + 1]
    measures = dict(
        mean_components_4conn=components(mask),
        frac_masks_with_isolated_patch=(mask & ~near).flatten(1).any(1),
        masked_freq_center=centre.flatten(1).double().mean(1),
        masked_freq_corner=mask[:, :: height - 1, :: width - 1].flatten(1).double().mean(1),
        masked_freq_border_row=mask[:, 0].double().mean(1),
    )
    return {name: value.double() for name, value in measures.items()}


@needs_golden
def test_the_statistics_are_the_official_ones():
    case = Case(NAME)
    told = {k: v for k, v in case.case["lists"]["statistics"].items() if not k.startswith("OLD")}
    by_name = {f"{h}x{w}_{count}": (h, w, count) for h, w, count in grids(case).values()}
    assert told.keys() == by_name.keys()
    for name, official in told.items():
        mask = our_masks(case, *by_name[name])
        assert mask.sum((1, 2)).unique().tolist() == official["counts"]
        measured = statistics(mask)
        assert measured.keys() == official.keys() - {"n", "counts"}
        for key, value in measured.items():
            error = value.std() * (1 / OURS + 1 / official["n"]) ** 0.5
            apart = abs(float(value.mean()) - official[key]) / float(error)
            assert apart < ERRORS, (name, key, float(value.mean()), official[key], apart)


@needs_golden
def test_the_masks_could_be_the_official_ones():
    """Every measure of the few masks that are given, and every row and column of them."""
    case = Case(NAME)
    for key, (height, width, count) in grids(case).items():
        given, ours = case[key].bool(), our_masks(case, height, width, count)
        assert given.shape[1:] == (height, width)
        assert given.sum((1, 2)).unique().tolist() == [count]
        theirs, measured = statistics(given), statistics(ours)
        for number in range(height):
            theirs[f"row {number}"] = given[:, number].double().mean(1)
            measured[f"row {number}"] = ours[:, number].double().mean(1)
        for number in range(width):
            theirs[f"column {number}"] = given[:, :, number].double().mean(1)
            measured[f"column {number}"] = ours[:, :, number].double().mean(1)
        for name, value in measured.items():
            error = float(value.std()) * (1 / OURS + 1 / len(given)) ** 0.5
            apart = abs(float(value.mean() - theirs[name].mean()))
            # 20 masks are few for a rare event, so one of them is allowed on top.
            assert apart < ERRORS * error + 1 / len(given), (key, name)
        case.compared.add(key)
    case.assert_complete()


@pytest.mark.parametrize(
    ("rows", "count"),
    [(("#.#", "...", "#.#"), 4), (("###", "#.#", "###"), 1), (("##.", "..#", "##."), 3)],
)
def test_components_are_counted(rows, count):
    mask = torch.tensor([[c == "#" for c in row] for row in rows])
    assert components(mask[None]).tolist() == [count]
