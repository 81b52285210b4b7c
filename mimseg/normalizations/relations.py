"""Turns a teacher's queries, keys and values into relations."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from mimseg.layers.relations import TokenRelations
from mimseg.normalizations.base import Normalization
from mimseg.outputs import Needs, TeacherOutput
from mimseg.registry import MODELS


@MODELS.register_module()
class Relations(Normalization):
    """Relations between the teacher's tokens instead of tokens (TinyMIM, arXiv 2301.01296, Eq. 4).

    The student's are mimseg.RelationHead's, with the same `relations` and `num_heads`. Both sides
    give logits; mimseg.RelationKLLoss takes the softmax.

    Args:
        relations: pairs such as "qk", "vv", "qq".
        layer: the teacher's block; negative ones count from the end.
        num_heads: regroup the channels of both sides into this many heads (MiniLMv2,
            arXiv 2012.15828); None keeps the heads they have, whose counts must then be equal
            (`backbone.last_block_heads`).

    Raises:
        UserError: an unknown relation.
    """

    def __init__(
        self,
        relations: Sequence[str] = ("qk", "vv"),
        layer: int = -1,
        num_heads: int | None = None,
    ) -> None:
        super().__init__((layer,))
        self.relations = TokenRelations(relations, num_heads, "normalization")

    @property
    def needs(self) -> Needs:
        return Needs(qkv=frozenset(self.layers))

    def forward(self, teacher: TeacherOutput) -> Tensor:
        """Logits (B, 1 + L, R, heads, 1 + L); L keys for a teacher without a CLS token."""
        return self.relations(teacher.qkv[self.layers[0]], teacher.grid[0] * teacher.grid[1])
