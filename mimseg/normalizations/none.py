"""Targets as the teacher gives them."""

from __future__ import annotations

from torch import Tensor

from mimseg.normalizations.base import Normalization
from mimseg.registry import MODELS


@MODELS.register_module()
class NoNormalization(Normalization):
    """The teacher's tokens, unchanged (the mean over layers, where there are several)."""

    def normalize(self, tokens: Tensor) -> Tensor:
        return tokens
