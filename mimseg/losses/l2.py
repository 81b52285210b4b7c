"""Squared error."""

from __future__ import annotations

from torch import Tensor, nn

from mimseg.losses.per_position import per_position
from mimseg.registry import MODELS


@MODELS.register_module()
class L2Loss(nn.Module):
    """Squared error, averaged over channels (MAE, arXiv 2111.06377, section 3)."""

    def forward(self, prediction: Tensor, target: Tensor) -> Tensor:
        """(N, ..., D), (N, ..., D) -> (N,), float32."""
        return per_position((prediction.float() - target.float()).square())
