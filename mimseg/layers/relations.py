"""Computes relations between tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor

from mimseg.errors import UserError
from mimseg.outputs import QKV


@dataclass(frozen=True)
class TokenRelations:
    """Scaled products of queries, keys and values (TinyMIM, arXiv 2301.01296, Eq. 4).

    A relation is A B^T / sqrt(d) of two of q, k and v, each head for itself, with the head width d
    of the network it comes from. Both sides of an objective use this one function.

    Args:
        pairs: such as "qk", "vv", "qq".
        num_heads: regroup the channels into this many heads (MiniLMv2, arXiv 2012.15828); None
            keeps the heads they have.
        slot: the config key that has the options, for errors. Relations with other slots
            are equal.

    Raises:
        UserError: an unknown pair, or none.
    """

    pairs: Sequence[str]
    num_heads: int | None
    slot: str = field(compare=False)

    def __post_init__(self) -> None:
        key, pairs = f"{self.slot}.relations", self.pairs
        if isinstance(pairs, str):
            raise UserError(key, pairs, expected="a list of pairs", fix=f"('{pairs}',)")
        for pair in pairs:
            if len(pair) != 2 or not set(pair) <= set("qkv"):
                raise UserError(key, pair, expected="two of q, k and v, such as 'qk' or 'vv'")
        if not pairs:
            raise UserError(key, pairs, expected="at least one pair", fix="('qk', 'vv')")
        object.__setattr__(self, "pairs", tuple(pairs))

    def __call__(self, qkv: QKV, length: int) -> Tensor:
        """The relations of a block's tokens.

        Args:
            qkv: query, key and value, each (B, heads, T, d).
            length: L, the number of patches; T is 1 + L with a CLS token, else L.

        Returns:
            Logits (B, 1 + L, R, heads, T): those of the queries, a row of zeros for a CLS token
            that is not there.

        Raises:
            UserError: `num_heads` does not divide the width.
        """
        if self.num_heads is not None:
            self.check_width(qkv[0].shape[1] * qkv[0].shape[3])
            qkv = [
                x.transpose(1, 2).flatten(2).unflatten(2, (self.num_heads, -1)).transpose(1, 2)
                for x in qkv
            ]
        parts = dict(zip("qkv", qkv, strict=True))
        scale = qkv[0].shape[3] ** -0.5
        # Scaled before the product, which could leave the range of half precision.
        maps = [(parts[a] * scale) @ parts[b].transpose(2, 3) for a, b in self.pairs]
        logits = torch.stack(maps, dim=2).permute(0, 3, 2, 1, 4)
        return F.pad(logits, (0, 0, 0, 0, 0, 0, 1, 0)) if logits.shape[1] == length else logits

    def check_width(self, width: int, side: str = "teacher") -> None:
        """Raise UserError where `num_heads` does not divide the width of that side's network."""
        if self.num_heads is not None and width % self.num_heads:
            raise UserError(
                f"{self.slot}.num_heads",
                self.num_heads,
                expected=f"a divisor of the {side}'s width, {width}",
                fix="a count that divides both widths, or None to keep the heads they have",
            )
