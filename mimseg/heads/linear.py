"""Projects tokens linearly."""

from __future__ import annotations

from torch import Tensor, nn

from mimseg.heads.token import TokenHead
from mimseg.outputs import StudentOutput
from mimseg.registry import MODELS


@MODELS.register_module()
class LinearHead(TokenHead):
    """Project each chosen token to the target's width.

    Args:
        in_channels: C, the student's width (filled in by the algorithm).
        out_channels: D, the target's width (filled in by the algorithm).
    """

    def __init__(self, in_channels: int, out_channels: int, init_cfg: dict | None = None) -> None:
        super().__init__(init_cfg)
        self.projection = nn.Linear(in_channels, out_channels)

    def forward(self, student: StudentOutput, positions: Tensor) -> Tensor:
        """Predictions (N, D)."""
        return self.projection(self.read(student, positions))
