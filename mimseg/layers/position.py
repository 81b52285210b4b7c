"""Makes and resizes absolute position embeddings."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor


def is_known(sides: Sequence[int]) -> bool:
    """Whether sizes are numbers.

    In an export for any size they are symbols, and comparing one with a number would fix it: what
    is resized to its own size comes out the same, so that the comparison can be left out.
    """
    return not any(isinstance(side, torch.SymInt) for side in sides)


def sincos_position_embedding(grid: tuple[int, int], dims: int, with_cls: bool) -> Tensor:
    """The fixed 2-D sine-cosine table of MAE (arXiv 2111.06377, appendix A.1).

    The first half of the channels encodes the column, the second the row.

    Args:
        grid: (h, w) in patches.
        dims: width, divisible by 4.
        with_cls: whether a row of zeros for the CLS token goes first.

    Returns:
        (1, h * w [+ 1], dims), float32.
    """
    if dims % 4:
        raise ValueError(f"dims = {dims}: a sine-cosine position embedding needs a multiple of 4")
    omega = 10000.0 ** -(torch.arange(dims // 4, dtype=torch.float64) / (dims // 4))
    rows, cols = torch.meshgrid(
        torch.arange(grid[0], dtype=torch.float64),
        torch.arange(grid[1], dtype=torch.float64),
        indexing="ij",
    )
    angles = [axis.flatten()[:, None] * omega for axis in (cols, rows)]
    table = torch.cat([f(a) for a in angles for f in (torch.sin, torch.cos)], dim=1)
    if with_cls:
        table = torch.cat([torch.zeros(1, dims, dtype=table.dtype), table])
    return table[None].float()


def resize_position_embedding(
    embed: Tensor,
    old: tuple[int, int],
    new: tuple[int, int],
    with_cls: bool,
    shifted: bool = False,
) -> Tensor:
    """Resize a table bicubically from one grid to another; the CLS row is kept.

    Args:
        embed: (1, old_h * old_w [+ 1], C).
        old, new: grids (h, w).
        with_cls: whether the first row belongs to the CLS token.
        shifted: sample at steps of old / (new + 0.1) instead of old / new, as DINO's code and its
            heirs do (BEiT v2's and dBOT's CLIP teachers, detection backbones).

    Returns:
        (1, new_h * new_w [+ 1], C) in the dtype of `embed`.
    """
    if is_known(new) and old == new:
        return embed
    cls, patches = embed[:, : int(with_cls)], embed[:, int(with_cls) :]
    maps = patches.float().reshape(1, *old, -1).permute(0, 3, 1, 2)
    if shifted:
        scale = tuple((n + 0.1) / o for n, o in zip(new, old, strict=True))
        maps = F.interpolate(maps, scale_factor=scale, mode="bicubic", align_corners=False)
    else:
        maps = F.interpolate(maps, size=new, mode="bicubic", align_corners=False)
    patches = maps.flatten(2).transpose(1, 2).to(embed.dtype)
    return torch.cat([cls, patches], dim=1)
