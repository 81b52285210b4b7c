"""Turns tokens into distributions, with temperature and centering."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from mimseg.errors import UserError, require_positive
from mimseg.normalizations.base import Normalization
from mimseg.normalizations.ranks import mean_over_ranks
from mimseg.outputs import TeacherOutput
from mimseg.registry import MODELS


@MODELS.register_module()
class SoftmaxNormalization(Normalization):
    """softmax((x - center) / temperature) over the channels of each token.

    The center is DINO's (arXiv 2104.14294, section 3.1): a running mean of the teacher's outputs,
    0 at first, moved by each training batch of all ranks after that batch was normalized. The CLS
    tokens have a center of their own, as in iBOT (arXiv 2111.07832), and so has each layer.

    Args:
        temperature: sharpens below 1.
        center_momentum: share of the old center that stays at a step, such as 0.9; None for no
            center.
        layers: the teacher's blocks that make up the target; distributions are averaged.
    """

    def __init__(
        self,
        temperature: float = 0.04,
        center_momentum: float | None = None,
        layers: Sequence[int] = (-1,),
    ) -> None:
        super().__init__(layers)
        require_positive("normalization.temperature", temperature)
        if center_momentum is not None and not 0 <= center_momentum < 1:
            raise UserError(
                "normalization.center_momentum",
                center_momentum,
                expected="a number from 0 to below 1",
                fix="0.9",
            )
        self.temperature, self.center_momentum = temperature, center_momentum
        if center_momentum is not None:  # (layers, 2, D), CLS and patches; see `bind`
            self.register_buffer("center", torch.empty(0))

    def bind(self, width: int) -> None:
        if self.center_momentum is not None:
            self.center = self.center.new_zeros(len(self.layers), 2, width)

    def forward(self, teacher: TeacherOutput) -> Tensor:
        """Distributions (B, 1 + L, D), CLS first, in float32."""
        if self.center_momentum is None:
            return super().forward(teacher)
        sequences = [teacher.sequence(layer).float() for layer in self.layers]
        total = 0.0
        for tokens, (cls, patches) in zip(sequences, self.center, strict=True):
            centered = torch.cat([tokens[:, :1] - cls, tokens[:, 1:] - patches], dim=1)
            total = total + self.normalize(centered)
        if self.training:
            self._move(sequences)
        return total / len(sequences)

    def normalize(self, tokens: Tensor) -> Tensor:
        return (tokens / self.temperature).softmax(-1)

    @torch.no_grad()
    def _move(self, sequences: list[Tensor]) -> None:
        rows = sequences[0].shape[0]
        sums = [torch.stack([x[:, 0].sum(0), x[:, 1:].mean(1).sum(0)]) for x in sequences]
        mean = mean_over_ranks(torch.stack(sums), rows)
        self.center.lerp_(mean, 1 - self.center_momentum)
