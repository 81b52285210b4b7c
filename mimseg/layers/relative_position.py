"""Makes and resizes relative position biases (BEiT, arXiv 2106.08254, appendix; T5)."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mimseg.layers.position import is_known

CLS_ROWS = 3  # CLS to patch, patch to CLS, CLS to CLS


def table_size(grid: tuple[int, int]) -> int:
    """Rows of a table: one for each offset between two patches, and three for the CLS token."""
    return (2 * grid[0] - 1) * (2 * grid[1] - 1) + CLS_ROWS


def relative_position_index(grid: tuple[int, int], with_cls: bool) -> Tensor:
    """Row of the table for each (query, key).

    Args:
        grid: (h, w) in patches.
        with_cls: whether the CLS token comes first.

    Returns:
        ([1 +] L, [1 +] L), long. A table has its offset rows first, by (dy, dx) of query minus key,
        then CLS to patch, patch to CLS, CLS to CLS. These three are counted from the end, by
        negative numbers: they are the same on every grid, as an export for any size needs.
    """
    rows, cols = (
        axis.flatten() for axis in torch.meshgrid(*map(torch.arange, grid), indexing="ij")
    )
    dy = rows[:, None] - rows + grid[0] - 1
    dx = cols[:, None] - cols + grid[1] - 1
    index = dy * (2 * grid[1] - 1) + dx
    if with_cls:
        index = F.pad(index, (0, 0, 1, 0), value=-3)
        index = F.pad(index, (1, 0, 0, 0), value=-2)
        index[0, 0] = -1
    return index


def resize_relative_table(
    table: Tensor, old: tuple[int, int], new: tuple[int, int], method: str = "bicubic"
) -> Tensor:
    """Resize the offset rows of a table from one grid to another.

    Args:
        table: (table_size(old), heads).
        old, new: grids (h, w).
        method: "bicubic", evenly over the whole range of offsets, or "geometric", as BEiT's code
            does when it loads a checkpoint: see `geometric_offsets`.

    Returns:
        (table_size(new), heads) in the dtype of `table`; the CLS rows are kept.
    """
    if is_known(new) and old == new:
        return table
    before, after = ((2 * h - 1, 2 * w - 1) for h, w in (old, new))
    offsets, cls = table[:-CLS_ROWS].float(), table[-CLS_ROWS:]
    maps = offsets.T.reshape(-1, *before)
    if method == "geometric":
        rows, columns = (
            _geometric_matrix(*sides).to(maps) for sides in zip(before, after, strict=True)
        )
        maps = rows @ maps @ columns.T
    else:
        maps = F.interpolate(maps[None], size=after, mode="bicubic", align_corners=True)[0]
    return torch.cat([maps.flatten(1).T.to(table.dtype), cls])


def geometric_offsets(old: int, new: int) -> list[float]:
    """Where BEiT's code puts `old` offsets on the axis of `new` ones, both odd.

    The gaps from the center outwards grow by a factor q, found by bisection in [1.01, 1.5] so that
    the ends meet. Where no q does (a much smaller source, or shrinking), the ends do not meet.
    """
    low, high, q = 1.01, 1.5, 1.01
    while high - low > 1e-6:
        q = (low + high) / 2
        if (1 - q ** (old // 2)) / (1 - q) > new // 2:
            high = q
        else:
            low = q
    reached = [0.0]
    for i in range(old // 2):
        reached.append(reached[-1] + q**i)
    return [-x for x in reached[:0:-1]] + reached


def _geometric_matrix(old: int, new: int) -> Tensor:
    """(new, old): a cubic spline through values at `geometric_offsets`, read at whole offsets."""
    from scipy.interpolate import make_interp_spline  # slow to import, and only loading needs it

    places = np.array(geometric_offsets(old, new))
    offsets = np.arange(-(new // 2), new // 2 + 1).clip(places[0], places[-1])
    if old < 4:  # too few points for a cubic
        matrix = [np.interp(offsets, places, row) for row in np.eye(old)]
        return torch.tensor(np.array(matrix).T)
    return torch.from_numpy(make_interp_spline(places, np.eye(old), k=3)(offsets))


class RelativePositionTable(nn.Module):
    """The table that all blocks of a network share; a block may also hold one of its own."""

    def __init__(self, grid: tuple[int, int], num_heads: int) -> None:
        super().__init__()
        self.relative_position_bias_table = nn.Parameter(torch.zeros(table_size(grid), num_heads))
