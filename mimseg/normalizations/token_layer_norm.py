"""Normalizes each token's channels."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from mimseg.normalizations.base import Normalization
from mimseg.outputs import TeacherOutput
from mimseg.registry import MODELS


@MODELS.register_module()
class TokenLayerNorm(Normalization):
    """(x - mean) / sqrt(var + eps) over the channels of each token.

    Args:
        layers: the teacher's blocks that make up the target.
        unbiased: divide the variance by D - 1, as MAE's per-patch pixels (arXiv 2111.06377,
            section 4.1) and dBOT's code do; False is LayerNorm's own biased variance.
        eps: added to the variance, under the root.
        final: normalize the average over the layers once more (data2vec, arXiv 2202.03555).
    """

    def __init__(
        self,
        layers: Sequence[int] = (-1,),
        unbiased: bool = False,
        eps: float = 1e-6,
        final: bool = False,
    ) -> None:
        super().__init__(layers)
        self.unbiased, self.eps, self.final = unbiased, eps, final

    def forward(self, teacher: TeacherOutput) -> Tensor:
        """The target sequence (B, 1 + L, D), CLS first, in float32."""
        target = super().forward(teacher)
        return self.normalize(target) if self.final else target

    def normalize(self, tokens: Tensor) -> Tensor:
        mean, std = self._statistics(tokens)
        return (tokens - mean) / std

    def denormalize(self, prediction: Tensor, teacher: TeacherOutput) -> Tensor:
        """Undone for a single layer; an average over several has no one scale to go back to."""
        if len(self.layers) > 1:
            return prediction
        mean, std = self._statistics(teacher.tokens[self.layers[0]].float())
        return prediction * std + mean

    def _statistics(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        mean = tokens.mean(-1, keepdim=True)
        return mean, (tokens.var(-1, keepdim=True, unbiased=self.unbiased) + self.eps).sqrt()
