"""Cuts maps of tokens into windows (ViTDet, arXiv 2203.16527, section 3)."""

from __future__ import annotations

import logging

import torch.nn.functional as F
from mmengine.logging import print_log
from torch import Tensor


def to_windows(x: Tensor, grid: tuple[int, int], size: int) -> Tensor:
    """Cut a map into windows, padded with zeros on the right and bottom.

    Args:
        x: (B, h * w, C), row by row.
        grid: (h, w).
        size: side of a window in tokens.

    Returns:
        (B * windows, size * size, C), the windows of an image row by row.
    """
    b, _, c = x.shape
    rows, columns = (-(-side // size) for side in grid)
    x = x.reshape(b, *grid, c)
    pad_h, pad_w = rows * size - grid[0], columns * size - grid[1]
    if pad_h or pad_w:
        x = F.pad(x, (0, 0, 0, pad_w, 0, pad_h))
    x = x.reshape(b, rows, size, columns, size, c).transpose(2, 3)
    return x.reshape(b * rows * columns, size * size, c)


def from_windows(windows: Tensor, grid: tuple[int, int], size: int) -> Tensor:
    """Undo `to_windows`: back to (B, h * w, C), the padding cut off."""
    rows, columns = (-(-side // size) for side in grid)
    c = windows.shape[2]
    x = windows.reshape(-1, rows, columns, size, size, c).transpose(2, 3)
    x = x.reshape(-1, rows * size, columns * size, c)[:, : grid[0], : grid[1]]
    return x.reshape(x.shape[0], grid[0] * grid[1], c)


def report_padding(size: int, grid: tuple[int, int]) -> None:
    """Warn of an image of (h, w) patches that is smaller than a window of that side."""
    print_log(
        f"backbone.window_size = {size}: an image of {grid[0]}x{grid[1]} patches is smaller than a "
        f"window and is padded with zeros to one; use larger images, or window_size={min(grid)}",
        "current",
        logging.WARNING,
    )
