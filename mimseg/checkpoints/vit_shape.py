"""Reads from a ViT's weights the options that it was built with."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from mimseg.checkpoints.names import layer_indices
from mimseg.layers.position import sincos_position_embedding
from mimseg.layers.relative_position import CLS_ROWS, table_size

_TABLE = "relative_position_bias_table"
_ROUNDING = 1e-3  # of sines and cosines kept in 16 bits


@dataclass(frozen=True)
class Shape:
    """The options of a ViT, as far as its weights tell; None where they do not.

    Args:
        width, depth, hidden, patch, channels: sizes.
        grid: (h, w) that its position tables were made for; absolute and relative position tables
            tell it where it is a square.
        heads: head count, which only relative positions tell.
        cls, pos_embed, mask_token, bias, norm: whether it has these; `bias` that of the qkv layer.
        sincos: whether `pos_embed` is the fixed table of sines and cosines.
        gamma: the first layer scale's mean size, above 0; None without one.
        tables: "none", "shared" or "per_block" relative position tables.
        decomposed: whether it has decomposed relative positions.
        window: side of the windows, which only decomposed relative positions tell.
        global_blocks: the blocks without windows, where there are windows.
    """

    width: int
    depth: int
    hidden: int
    patch: int
    channels: int
    grid: tuple[int, int] | None
    heads: int | None
    cls: bool
    pos_embed: bool
    sincos: bool
    mask_token: bool
    bias: bool
    norm: bool
    gamma: float | None
    tables: str
    decomposed: bool
    window: int | None
    global_blocks: tuple[int, ...] | None

    @property
    def img_size(self) -> int | tuple[int, int] | None:
        if self.grid is None:
            return None
        height, width = (side * self.patch for side in self.grid)
        return height if height == width else (height, width)

    def options(self) -> dict:
        """Those of `mimseg.ViT`, the arch's sizes and defaults left out."""
        positions = "none" if not self.pos_embed else None if self.sincos else "learned"
        options = {
            "patch_size": self.patch,
            "img_size": self.img_size,
            "in_channels": None if self.channels == 3 else self.channels,
            "mask_mode": "token" if self.mask_token else None,
            "pos_embed": positions,
            "rel_pos_bias": None if self.tables == "none" else self.tables,
            "decomposed_rel_pos": self.decomposed or None,
            "window_size": self.window,
            "global_blocks": self.global_blocks,
            "layer_scale": self.gamma,
            "qkv_bias": None if self.bias else False,
            "with_cls_token": None if self.cls else False,
            "final_norm": None if self.norm else False,
        }
        return {name: value for name, value in options.items() if value is not None}

    def __str__(self) -> str:
        text = ", ".join(f"{name}={value!r}" for name, value in self.options().items())
        return f"{self.depth} blocks of width {self.width}; mimseg.ViT({text})"


def shape_of(state: dict[str, Tensor]) -> Shape:
    """The shape of a ViT from its weights in our names, "layers.0.ln1.weight"."""
    width, channels, _, patch = state["patch_embed.projection.weight"].shape
    first, shared = f"layers.0.attn.{_TABLE}", f"rel_pos_bias.{_TABLE}"
    table = state.get(first, state.get(shared))
    pos, gamma = state.get("pos_embed"), state.get("layers.0.attn.gamma1.weight")
    cls, depth = "cls_token" in state, len(layer_indices(state))
    axes = _axes(state, depth)
    grid, heads = None, None if table is None else table.shape[1]
    if axes:
        grid, heads = max(axes), width // state["layers.0.attn.rel_pos_h"].shape[1]
    elif pos is not None:
        grid = _square(pos.shape[1] - cls)
    elif table is not None and (offsets := _square(table.shape[0] - CLS_ROWS)):
        grid = ((offsets[0] + 1) // 2,) * 2
    windows = len(set(axes)) > 1
    return Shape(
        width=width,
        depth=depth,
        hidden=state["layers.0.ffn.layers.0.0.weight"].shape[0],
        patch=patch,
        channels=channels,
        grid=grid,
        heads=heads,
        cls=cls,
        pos_embed=pos is not None,
        sincos=grid is not None and _is_sincos(pos, grid, cls),
        mask_token="mask_token" in state,
        bias="layers.0.attn.qkv.bias" in state,
        norm="ln1.weight" in state,
        gamma=None if gamma is None else float(f"{float(gamma.abs().mean()):.2g}") or 1e-6,
        tables="per_block" if first in state else "shared" if shared in state else "none",
        decomposed=bool(axes),
        window=min(axes)[0] if windows else None,
        global_blocks=tuple(i for i, axis in enumerate(axes) if axis == grid) if windows else None,
    )


def fits_grid(state: dict[str, Tensor], grid: tuple[int, int]) -> bool:
    """Whether a ViT's position tables may have been made for a grid (h, w), a square or not."""
    patches = state["pos_embed"].shape[1] - ("cls_token" in state) if "pos_embed" in state else None
    rows = {table.shape[0] for name, table in state.items() if name.endswith(_TABLE)}
    return patches in (None, grid[0] * grid[1]) and rows <= {table_size(grid)}


def _axes(state: dict[str, Tensor], depth: int) -> list[tuple[int, int]]:
    """(h, w) of the map or window that each block's decomposed positions are for; [] without."""
    names = [f"layers.{i}.attn.rel_pos_{axis}" for i in range(depth) for axis in "hw"]
    if not depth or any(name not in state for name in names):
        return []
    sides = [(state[name].shape[0] + 1) // 2 for name in names]
    return list(zip(sides[::2], sides[1::2], strict=True))


def _is_sincos(pos: Tensor | None, grid: tuple[int, int], cls: bool) -> bool:
    if pos is None or pos.ndim != 3 or pos.shape[2] % 4:
        return False
    table = sincos_position_embedding(grid, pos.shape[2], cls)
    return table.shape == pos.shape and torch.allclose(pos.float(), table, atol=_ROUNDING)


def _square(number: int) -> tuple[int, int] | None:
    side = round(max(number, 0) ** 0.5)
    return (side, side) if side * side == number else None
