"""The ViT's blocks: what each has of its own."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from mimseg.errors import UserError
from mimseg.layers.block import TransformerBlock
from mimseg.layers.relative_position import table_size
from mimseg.students.archs import last_of_quarters


def build_blocks(
    arch: dict,
    grid: tuple[int, int],
    *,
    qkv_bias: bool,
    layer_scale: float,
    drop_paths: Sequence[float],
    norm_eps: float,
    last_block_heads: int | None,
    own_tables: bool,
    windows: Sequence[int],
    decomposed: bool,
) -> nn.ModuleList:
    """The blocks of a ViT, one for each of `drop_paths` and `windows`.

    Args:
        arch: embed_dims, num_heads, feedforward_channels.
        grid: (h, w) that position tables are made for.
        qkv_bias, layer_scale, norm_eps: of every block.
        drop_paths: drop path rates.
        last_block_heads: head count of the last block; None for the others'.
        own_tables: whether each block has a relative position table.
        windows: sides of the windows, 0 for none.
        decomposed: whether blocks have decomposed relative positions.
    """
    heads = [arch["num_heads"]] * len(windows)
    if last_block_heads and heads:
        heads[-1] = last_block_heads
    return nn.ModuleList(
        TransformerBlock(
            arch["embed_dims"],
            count,
            arch["feedforward_channels"],
            qkv_bias,
            layer_scale,
            drop_path,
            norm_eps,
            table_rows=table_size(grid) if own_tables else 0,
            window=window,
            axes=((window, window) if window else grid) if decomposed else None,
        )
        for count, drop_path, window in zip(heads, drop_paths, windows, strict=True)
    )


def drop_path_rates(rate: float, schedule: str, depth: int) -> list[float]:
    """Each block's rate: "linear" from 0 to `rate`, or "constant" but 0 in the last block."""
    if schedule == "constant":
        return [rate * (i < depth - 1) for i in range(depth)]
    return [rate * i / max(depth - 1, 1) for i in range(depth)]


def block_windows(size: int, global_blocks: Sequence[int] | None, depth: int) -> list[int]:
    """Each block's window, 0 for none.

    Raises:
        UserError: a global block that is not there.
    """
    if not size:
        return [0] * depth
    if global_blocks is None:
        global_blocks = last_of_quarters(depth)
    whole = {index % depth for index in global_blocks if -depth <= index < depth}
    if len(whole) != len(set(global_blocks)):
        raise UserError(
            "backbone.global_blocks", list(global_blocks), expected=f"blocks 0 to {depth - 1}"
        )
    return [0 if index in whole else size for index in range(depth)]
