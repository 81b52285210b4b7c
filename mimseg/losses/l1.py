"""Absolute error."""

from __future__ import annotations

from torch import Tensor, nn

from mimseg.losses.per_position import per_position
from mimseg.registry import MODELS


@MODELS.register_module()
class L1Loss(nn.Module):
    """Absolute error, averaged over channels (SimMIM, arXiv 2111.09886, section 3.4)."""

    def forward(self, prediction: Tensor, target: Tensor) -> Tensor:
        """(N, ..., D), (N, ..., D) -> (N,), float32."""
        return per_position((prediction.float() - target.float()).abs())
