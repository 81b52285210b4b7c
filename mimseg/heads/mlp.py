"""Projects tokens by a multi-layer perceptron."""

from __future__ import annotations

from torch import Tensor, nn

from mimseg.errors import UserError
from mimseg.heads.token import TokenHead
from mimseg.outputs import StudentOutput
from mimseg.registry import MODELS


@MODELS.register_module()
class MLPHead(TokenHead):
    """Linear layers with GELU between them, on each chosen token.

    Args:
        in_channels: C, the student's width (filled in by the algorithm).
        out_channels: D, the target's width (filled in by the algorithm).
        hidden: width of the hidden layers; None takes the student's.
        depth: number of linear layers.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        hidden: int | None = None,
        depth: int = 2,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg)
        if depth < 2:
            raise UserError(
                "head.depth", depth, expected="at least 2 layers", fix="mimseg.LinearHead has one"
            )
        hidden = hidden or in_channels
        widths = [in_channels] + [hidden] * (depth - 1)
        self.layers = nn.Sequential(
            *(
                nn.Sequential(nn.Linear(before, after), nn.GELU())
                for before, after in zip(widths[:-1], widths[1:], strict=True)
            )
        )
        self.projection = nn.Linear(hidden, out_channels)

    def forward(self, student: StudentOutput, positions: Tensor) -> Tensor:
        """Predictions (N, D)."""
        return self.projection(self.layers(self.read(student, positions)))
