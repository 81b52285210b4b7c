"""One linear layer."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mimseg.algorithms.outputs import StudentOutput
from mimseg.heads.base import Head
from mimseg.registry import MODELS


@MODELS.register_module()
class LinearHead(Head):
    """Project each chosen token to the target's width.

    Args:
        in_channels: C, the student's width (filled in by the algorithm).
        out_channels: D, the target's width (filled in by the algorithm).
    """

    def __init__(self, in_channels: int, out_channels: int, init_cfg: dict | None = None) -> None:
        super().__init__(init_cfg)
        self.projection = nn.Linear(in_channels, out_channels)

    def init_weights(self) -> None:
        """Truncated normal, std 0.02 (BEiT's scheme)."""
        nn.init.trunc_normal_(self.projection.weight, std=0.02)
        nn.init.zeros_(self.projection.bias)
        self._is_init = True

    def forward(self, student: StudentOutput, positions: Tensor) -> Tensor:
        """Predictions (N, D).

        Raises:
            ValueError: the student dropped its masked patches, so it has no token there.
        """
        if student.kept is not None:
            raise ValueError(
                "head.type = 'mimseg.LinearHead': the student dropped the masked patches; use "
                "mimseg.DecoderHead, or backbone.mask_mode='token'"
            )
        tokens = student.tokens
        cls = tokens.new_zeros(tokens[:, 0].shape) if student.cls is None else student.cls
        sequence = torch.cat([cls[:, None], tokens], dim=1).flatten(0, 1)
        return self.projection(sequence[positions])
