"""Attends with decomposed relative positions: a row and a column term that depend on the query.

MViTv2 (arXiv 2112.01526, section 4.1), as ViTDet uses them:
score(i, j) = q_i k_j / sqrt(d) + q_i R_h[y_i - y_j] + q_i R_w[x_i - x_j].
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from mimseg.layers.tiled_attention import TiledAttention

_MASK_TOKENS = 1024  # above it, nothing of every pair of tokens is held in memory
_TILED = ("cpu",)  # kinds of device that train in tiles


def decomposed_attention(
    q: Tensor, k: Tensor, v: Tensor, table_h: Tensor, table_w: Tensor, grid: tuple[int, int]
) -> Tensor:
    """Attention of every token of a map to every other.

    The two terms are the same for all keys of a row, and for all of a column. A CPU trains in tiles
    (see `TiledAttention`). Elsewhere small maps get a bias of every pair; on large maps the terms
    ride along in the product of queries and keys: the query is lengthened by its h + w terms, the
    key by the one-hot codes of its row and column. So the kernel that never holds the scores
    serves here too, and memory grows with the tokens, not with their square.

    Args:
        q, k, v: (B, heads, L, d), L = h * w.
        table_h, table_w: (2 * h - 1, d) and (2 * w - 1, d), by query's minus key's place; others
            are resized.
        grid: (h, w).

    Returns:
        (B, heads, L, d).
    """
    rows, columns = _terms(q, table_h, table_w, grid)
    if q.requires_grad and q.device.type in _TILED and not torch.compiler.is_compiling():
        parts = (x.flatten(0, 1) for x in (q * q.shape[3] ** -0.5, k, v, rows, columns))
        x = TiledAttention.apply(*parts, q.shape[2] <= _MASK_TOKENS)
        return x.unflatten(0, q.shape[:2])
    if q.shape[2] <= _MASK_TOKENS:
        bias = (rows[..., :, None] + columns[..., None, :]).flatten(-2)
        return F.scaled_dot_product_attention(q, k, v, attn_mask=bias)
    d = q.shape[3]
    place = torch.arange(q.shape[2], device=q.device)
    codes = [
        F.one_hot(place // grid[1], grid[0]).to(k.dtype),
        F.one_hot(place % grid[1], grid[1]).to(k.dtype),
    ]
    codes = torch.cat(codes, dim=1).expand(*k.shape[:2], -1, -1)
    extra = -(d + sum(grid)) % 8  # kernels want whole vectors
    q = torch.cat([q * d**-0.5, rows, columns], dim=3)
    k = torch.cat([k, codes], dim=3)
    q, k = F.pad(q, (0, extra)), F.pad(k, (0, extra))
    v = F.pad(v, (0, q.shape[3] - d))  # the same width, or no fast kernel takes them
    return F.scaled_dot_product_attention(q, k, v, scale=1.0)[..., :d]


def resize_axis_table(table: Tensor, places: int) -> Tensor:
    """Resize a table (n, d) linearly to `places` rows, as ViTDet's code does."""
    if table.shape[0] == places:
        return table
    resized = F.interpolate(table.float().T[None], size=places, mode="linear")[0].T
    return resized.to(table.dtype)


def _terms(q: Tensor, table_h: Tensor, table_w: Tensor, grid: tuple[int, int]):
    """(B, heads, L, h) and (B, heads, L, w): the query's terms for each row and column."""
    h, w = grid
    maps = q.unflatten(2, grid)
    rows = torch.einsum("bnyxd,yed->bnyxe", maps, _by_pair(table_h, h).to(q.dtype))
    columns = torch.einsum("bnyxd,xed->bnyxe", maps, _by_pair(table_w, w).to(q.dtype))
    return rows.flatten(2, 3), columns.flatten(2, 3)


def _by_pair(table: Tensor, side: int) -> Tensor:
    """(side, side, d): the table's row for each place of a query and of a key."""
    place = torch.arange(side, device=table.device)
    return resize_axis_table(table, 2 * side - 1)[place[:, None] - place + side - 1]
