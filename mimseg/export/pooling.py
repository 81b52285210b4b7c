"""Replaces pooling that ONNX has no operation for, for maps of any size."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class _BinPool(nn.Module):
    """nn.AdaptiveAvgPool2d as sums over bins, for maps of any size.

    ONNX has no adaptive pooling, and torch writes one out for the size of its example alone.

    Args:
        output_size: (h, w) of the result; None keeps a side.
    """

    def __init__(self, output_size: int | None | tuple[int | None, int | None]) -> None:
        super().__init__()
        self.output_size = output_size if isinstance(output_size, tuple) else (output_size,) * 2

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, h, w)."""
        rows, columns = self.output_size
        # sums and no matrix product, which torch folds differently for maps of one row
        if rows is not None:
            x = (x[:, :, None] * _bins(x.shape[2], rows, x)[:, :, None]).sum(3)
        if columns is not None:
            x = (x[:, :, :, None] * _bins(x.shape[3], columns, x)).sum(4)
        return x


def _bins(side: int, count: int, like: Tensor) -> Tensor:
    """(count, side): the weight of each place in each bin, from floor(i * side / count) to
    ceil((i + 1) * side / count)."""
    place = torch.arange(side, device=like.device)
    index = torch.arange(count, device=like.device)[:, None]
    first, end = index * side // count, ((index + 1) * side + count - 1) // count
    return ((place >= first) & (place < end)).to(like.dtype) / (end - first)


class _PairPool(nn.Module):
    """nn.MaxPool2d(2) as maxima of every second row and column and the next.

    torch asks whether a side is even, and so ties a graph to even or to odd sides.
    """

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H // 2, W // 2)."""
        for axis in (2, 3):
            first = 2 * torch.arange(x.shape[axis] // 2, device=x.device)
            x = torch.maximum(x.index_select(axis, first), x.index_select(axis, first + 1))
        return x


def _stand_in(module: nn.Module) -> nn.Module | None:
    if isinstance(module, nn.AdaptiveAvgPool2d):
        return _BinPool(module.output_size)
    if isinstance(module, nn.MaxPool2d):
        options = ("kernel_size", "stride", "padding", "dilation", "ceil_mode")
        if [getattr(module, name) for name in options] == [2, 2, 0, 1, False]:
            return _PairPool()
    return None


@contextmanager
def free_pools(module: nn.Module) -> Iterator[None]:
    """Within the block, replace a module's pools by such ones."""
    pools = [
        (parent, name, child, stand_in)
        for parent in module.modules()
        for name, child in parent.named_children()
        if (stand_in := _stand_in(child)) is not None
    ]
    for parent, name, _, stand_in in pools:
        setattr(parent, name, stand_in)
    try:
        yield
    finally:
        for parent, name, child, _ in pools:
            setattr(parent, name, child)
