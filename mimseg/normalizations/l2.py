"""Normalizes to unit length."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor

from mimseg.normalizations.base import Normalization
from mimseg.outputs import TeacherOutput
from mimseg.registry import MODELS


@MODELS.register_module()
class L2Normalization(Normalization):
    """Each token divided by its length over the channels (MaskFeat's targets, arXiv 2112.09133).

    A token of zeros, such as the CLS token of a teacher without one, stays zero.

    Args:
        layers: the teacher's blocks that make up the target.
        eps: the least length to divide by.
    """

    def __init__(self, layers: Sequence[int] = (-1,), eps: float = 1e-12) -> None:
        super().__init__(layers)
        self.eps = eps

    def normalize(self, tokens: Tensor) -> Tensor:
        return F.normalize(tokens, dim=-1, eps=self.eps)

    def denormalize(self, prediction: Tensor, teacher: TeacherOutput) -> Tensor:
        """Undone for a single layer; an average over several has no one length to go back to."""
        if len(self.layers) > 1:
            return prediction
        return prediction * teacher.tokens[self.layers[0]].float().norm(dim=-1, keepdim=True)
