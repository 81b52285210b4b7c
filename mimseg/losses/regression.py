"""Measures the distance of predictions to targets, averaged over channels."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from mimseg.errors import require_positive
from mimseg.losses.base import Loss, per_position
from mimseg.registry import MODELS


@MODELS.register_module()
class SmoothL1Loss(Loss):
    """Smooth L1 (Huber over beta).

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


@MODELS.register_module()
class L1Loss(Loss):
    """Absolute error (SimMIM, arXiv 2111.09886, section 3.4)."""

    def forward(self, prediction: Tensor, target: Tensor) -> Tensor:
        """(N, ..., D), (N, ..., D) -> (N,), float32."""
        return per_position((prediction.float() - target.float()).abs())


@MODELS.register_module()
class L2Loss(Loss):
    """Squared error (MAE, arXiv 2111.06377, section 3)."""

    def forward(self, prediction: Tensor, target: Tensor) -> Tensor:
        """(N, ..., D), (N, ..., D) -> (N,), float32."""
        return per_position((prediction.float() - target.float()).square())
