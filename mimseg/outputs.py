"""Defines what teachers and students hand over, and what is asked of them."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

QKV = tuple[Tensor, Tensor, Tensor]
"""Query, key and value of a block, each (B, heads, L, C / heads), CLS first if there is one."""


@dataclass(frozen=True)
class Needs:
    """What a network must compute, and no more. Needs of several askers are joined with `|`.

    Layers are block indices; negative ones count from the end, as in a list. In a network without
    blocks (dBOT's depth 0) the index -1 is the output of the patch embedding.

    Args:
        layers: blocks whose output tokens are needed.
        qkv: blocks whose query, key and value are needed.
        attention: whether the last block's attention of the CLS token is needed.
        ids: whether a tokenizer's ids are needed.
        tokens: whether the student's final tokens are needed. Where nobody needs them, it stops
            at the last q, k and v asked for (TinyMIM). Teachers do not look at it.
    """

    layers: frozenset[int] = frozenset()
    qkv: frozenset[int] = frozenset()
    attention: bool = False
    ids: bool = False
    tokens: bool = True

    def __or__(self, other: Needs) -> Needs:
        return Needs(
            self.layers | other.layers,
            self.qkv | other.qkv,
            self.attention or other.attention,
            self.ids or other.ids,
            self.tokens or other.tokens,
        )


@dataclass(frozen=True)
class TeacherOutput:
    """A teacher's view of B full images on the student's token grid.

    Args:
        grid: (h, w) of the patch tokens, L = h * w.
        tokens: layer -> patch tokens (B, L, D), keyed by the index that was asked for.
        cls: layer -> CLS token (B, D), empty for a teacher without one.
        ids: tokenizer ids (B, L), long.
        qkv: layer -> query, key, value.
        attention: attention of the CLS token to the patches (B, L).
    """

    grid: tuple[int, int]
    tokens: dict[int, Tensor] = field(default_factory=dict)
    cls: dict[int, Tensor] = field(default_factory=dict)
    ids: Tensor | None = None
    qkv: dict[int, QKV] = field(default_factory=dict)
    attention: Tensor | None = None

    def sequence(self, layer: int) -> Tensor:
        """Tokens of a layer as (B, 1 + L, D), the CLS token first (zeros where there is none)."""
        tokens = self.tokens[layer]
        cls = self.cls.get(layer)
        first = tokens.new_zeros(tokens.shape[0], tokens.shape[2]) if cls is None else cls
        return torch.cat([first[:, None], tokens], dim=1)


@dataclass(frozen=True)
class StudentOutput:
    """The student's view of B images under M masks each.

    Args:
        tokens: (B * M, K, C); K = L, or the number of visible patches when masked ones are dropped.
            Where no head needs the final tokens, those that the last block took in.
        cls: (B * M, C), or None for a student without a CLS token.
        mask: (B * M, L) bool, True = masked; None for a student that saw the full image.
        kept: (B * M, K) indices of the visible patches; None when no patch was dropped.
        grid: (h, w) of the full token grid.
        taps: layer -> tokens (B * M, K, C) after that block.
        qkv: layer -> query, key, value.
        attention_bias: relative position bias (heads, 1 + L, 1 + L) that all blocks share, if any.
    """

    tokens: Tensor
    cls: Tensor | None
    mask: Tensor | None
    kept: Tensor | None
    grid: tuple[int, int]
    taps: dict[int, Tensor] = field(default_factory=dict)
    qkv: dict[int, QKV] = field(default_factory=dict)
    attention_bias: Tensor | None = None

    @property
    def length(self) -> int:
        """L, the number of patches in the full grid."""
        return self.grid[0] * self.grid[1]
