"""Smooth L1."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from mimseg.errors import require_positive
from mimseg.losses.per_position import per_position
from mimseg.registry import MODELS


@MODELS.register_module()
class SmoothL1Loss(nn.Module):
    """Smooth L1 (Huber over beta), averaged over channels.

    Args:
        beta: where the quadratic part ends. dBOT's code uses 2.0.
    """

    def __init__(self, beta: float = 1.0) -> None:
        super().__init__()
        require_positive("loss.beta", beta, fix="mimseg.L1Loss for 0")
        self.beta = beta

    def forward(self, prediction: Tensor, target: Tensor) -> Tensor:
        """(N, ..., D), (N, ..., D) -> (N,), float32."""
        loss = F.smooth_l1_loss(
            prediction.float(), target.float(), beta=self.beta, reduction="none"
        )
        return per_position(loss)
