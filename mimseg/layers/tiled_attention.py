"""Computes attention with row and column terms, for training on a CPU."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

_TILE = 1 << 20  # scores at a time: 4 MiB in float32, which stay in a CPU's cache


class TiledAttention(torch.autograd.Function):
    """softmax(q k + rows + columns) v without the whole matrix of scores.

    scaled_dot_product_attention has no CPU kernel with a gradient for a mask: it goes the plain
    way, and looks for rows that are masked altogether on top. Here queries are taken in tiles, and
    the backward pass computes the weights of each again: memory grows with the tokens, not with
    their square, and the scores never leave the cache.
    """

    @staticmethod
    def forward(
        ctx, q: Tensor, k: Tensor, v: Tensor, rows: Tensor, columns: Tensor, keep: bool
    ) -> Tensor:
        """Attention of N heads, those of all images.

        Args:
            q: (N, L, d), divided by the square root of d.
            k, v: (N, L, d).
            rows, columns: (N, L, h) and (N, L, w), what each query adds for a row and a column of
                keys; L = h * w.
            keep: hold the weights (N, L, L) for the backward pass after all: faster where L is
                small.

        Returns:
            (N, L, d).
        """
        out, held = torch.empty_like(v), []
        for tile in _tiles(q):
            weights = _weights(q, k, rows, columns, tile)
            out[tile] = weights @ v[tile[0]]
            if keep:
                held.append(weights)
        ctx.save_for_backward(q, k, v, rows, columns, *held)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor) -> tuple[Tensor | None, ...]:
        """(N, L, d) -> gradients of the five tensors."""
        q, k, v, rows, columns, *held = ctx.saved_tensors
        grad_q, grad_rows, grad_columns = (torch.empty_like(x) for x in (q, rows, columns))
        grad_k, grad_v = torch.zeros_like(k), torch.zeros_like(v)
        for number, tile in enumerate(_tiles(q)):
            heads, part = tile[0], grad[tile]
            weights = held[number] if held else _weights(q, k, rows, columns, tile)
            grad_v[heads] += weights.mT @ part
            scores = part @ v[heads].mT
            scores = torch._softmax_backward_data(scores, weights, -1, scores.dtype)
            grad_q[tile] = scores @ k[heads]
            grad_k[heads] += scores.mT @ q[tile]
            maps = scores.unflatten(-1, (rows.shape[-1], columns.shape[-1]))
            grad_rows[tile], grad_columns[tile] = maps.sum(-1), maps.sum(-2)
        return grad_q, grad_k, grad_v, grad_rows, grad_columns, None


def _tiles(q: Tensor) -> Iterator[tuple[slice, slice]]:
    """Heads and queries that are taken together: several whole heads, or some queries of one."""
    count, length, _ = q.shape
    heads, queries = max(1, _TILE // length**2), max(1, min(length, _TILE // length))
    for head in range(0, count, heads):
        for query in range(0, length, queries):
            yield slice(head, head + heads), slice(query, query + queries)


def _weights(q: Tensor, k: Tensor, rows: Tensor, columns: Tensor, tile: tuple) -> Tensor:
    """(heads, queries, L): the attention weights of a tile."""
    scores = q[tile] @ k[tile[0]].mT
    maps = scores.unflatten(-1, (rows.shape[-1], columns.shape[-1]))  # a view
    maps += rows[tile].unsqueeze(-1)
    maps += columns[tile].unsqueeze(-2)
    return scores.softmax(-1).to(q.dtype)
