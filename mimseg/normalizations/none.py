"""Leaves targets as the teacher gives them."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor

from mimseg.errors import UserError
from mimseg.normalizations.base import Normalization
from mimseg.outputs import Needs, TeacherOutput
from mimseg.registry import MODELS


@MODELS.register_module()
class NoNormalization(Normalization):
    """The teacher's tokens, unchanged (the mean over layers, where there are several).

    Args:
        layers: the teacher's blocks that make up the target.
        ids: hand on a tokenizer's ids instead of tokens.
    """

    may_lack_layers = True  # ids are no tokens

    def __init__(self, layers: Sequence[int] = (-1,), ids: bool = False) -> None:
        super().__init__(() if ids else layers)
        self.ids = ids

    @property
    def plain(self) -> bool:
        """True for tokens, False for ids."""
        return not self.ids

    @property
    def needs(self) -> Needs:
        return Needs(layers=frozenset(self.layers), ids=self.ids)

    def bind(self, width: int) -> None:
        """Raise UserError where there is no target; a head may have put its default instead."""
        if not self.layers and not self.ids:
            raise UserError("normalization.layers", (), expected="at least one block", fix="(-1,)")

    def forward(self, teacher: TeacherOutput) -> Tensor:
        """Tokens (B, 1 + L, D) in float32, or ids (B, 1 + L) with -1 for the CLS token."""
        return F.pad(teacher.ids, (1, 0), value=-1) if self.ids else super().forward(teacher)

    def normalize(self, tokens: Tensor) -> Tensor:
        return tokens
