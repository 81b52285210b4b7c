"""Normalizes by batch statistics."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from mimseg.normalizations.base import Normalization
from mimseg.normalizations.ranks import mean_over_ranks
from mimseg.outputs import TeacherOutput
from mimseg.registry import MODELS


@MODELS.register_module()
class BatchNormalization(Normalization):
    """(x - mean) / sqrt(var + eps) of each channel over the tokens of the batch.

    Batch norm without affine parameters and without running averages: the current batch decides,
    in training that of all ranks together. The variance is biased. The CLS tokens have statistics
    of their own, since they lie elsewhere and are zeros for a teacher without one.

    Args:
        layers: the teacher's blocks that make up the target.
        eps: added to the variance, under the root.
    """

    def __init__(self, layers: Sequence[int] = (-1,), eps: float = 1e-6) -> None:
        super().__init__(layers)
        self.eps = eps

    def normalize(self, tokens: Tensor) -> Tensor:
        parts = []
        for part in (tokens[:, :1], tokens[:, 1:]):
            mean, std = self._statistics(part)
            parts.append((part - mean) / std)
        return torch.cat(parts, dim=1)

    def denormalize(self, prediction: Tensor, teacher: TeacherOutput) -> Tensor:
        """Undone for a single layer, by the statistics of this batch."""
        if len(self.layers) > 1:
            return prediction
        mean, std = self._statistics(teacher.tokens[self.layers[0]].float())
        return prediction * std + mean

    def _statistics(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation (D,); two passes, since E[x^2] - E[x]^2 cancels."""
        mean = self._mean(tokens)
        return mean, (self._mean((tokens - mean).square()) + self.eps).sqrt()

    def _mean(self, values: Tensor) -> Tensor:
        # Evaluation may run on one rank alone, where a reduction would wait for ever.
        if not self.training:
            return values.mean((0, 1))
        return mean_over_ranks(values.sum((0, 1)), values.shape[0] * values.shape[1])
