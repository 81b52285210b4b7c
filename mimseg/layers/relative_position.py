"""Relative position bias of attention (BEiT, arXiv 2106.08254, appendix; T5)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

CLS_ROWS = 3  # CLS to patch, patch to CLS, CLS to CLS


def table_size(grid: tuple[int, int]) -> int:
    """Rows of a table: one for each offset between two patches, and three for the CLS token."""
    return (2 * grid[0] - 1) * (2 * grid[1] - 1) + CLS_ROWS


def relative_position_index(grid: tuple[int, int], with_cls: bool) -> Tensor:
    """Row of the table for each (query, key).

    Args:
        grid: (h, w) in patches.
        with_cls: whether the CLS token stands first.

    Returns:
        ([1 +] L, [1 +] L), long. A table has its offset rows first, by (dy, dx) of query minus key,
        then CLS to patch, patch to CLS, CLS to CLS.
    """
    rows, cols = (
        axis.flatten() for axis in torch.meshgrid(*map(torch.arange, grid), indexing="ij")
    )
    dy = rows[:, None] - rows + grid[0] - 1
    dx = cols[:, None] - cols + grid[1] - 1
    index = dy * (2 * grid[1] - 1) + dx
    if with_cls:
        last = table_size(grid)
        index = F.pad(index, (0, 0, 1, 0), value=last - 3)
        index = F.pad(index, (1, 0, 0, 0), value=last - 2)
        index[0, 0] = last - 1
    return index


def resize_relative_table(table: Tensor, old: tuple[int, int], new: tuple[int, int]) -> Tensor:
    """Resize the offset rows of a table bicubically from one grid to another.

    Args:
        table: (table_size(old), heads).
        old, new: grids (h, w).

    Returns:
        (table_size(new), heads) in the dtype of `table`; the CLS rows are kept.
    """
    if old == new:
        return table
    sizes = [tuple(2 * side - 1 for side in grid) for grid in (old, new)]
    offsets, cls = table[:-CLS_ROWS].float(), table[-CLS_ROWS:]
    maps = offsets.T.reshape(1, -1, *sizes[0])
    maps = F.interpolate(maps, size=sizes[1], mode="bicubic", align_corners=True)
    return torch.cat([maps.flatten(2)[0].T.to(table.dtype), cls])


class RelativePositionTable(nn.Module):
    """The table that all blocks of a network share; a block may also hold one of its own."""

    def __init__(self, grid: tuple[int, int], num_heads: int) -> None:
        super().__init__()
        self.relative_position_bias_table = nn.Parameter(torch.zeros(table_size(grid), num_heads))
