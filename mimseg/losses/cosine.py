"""Measures cosine distance."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from mimseg.losses.base import Loss, per_position
from mimseg.registry import MODELS


@MODELS.register_module()
class CosineLoss(Loss):
    """scale * (1 - cosine of prediction and target over the channels).

    Scale 1 is the loss of MVP (arXiv 2203.05175) and of dBOT with a CLIP teacher. Scale 2 is
    MILAN's 2 - 2 cos (arXiv 2208.06049), the squared distance of the two at unit length.

    Args:
        scale: factor of the loss.
        eps: the least length to divide by, as in torch's cosine_similarity.
    """

    def __init__(self, scale: float = 1.0, eps: float = 1e-8) -> None:
        super().__init__()
        self.scale, self.eps = scale, eps

    def forward(self, prediction: Tensor, target: Tensor) -> Tensor:
        """(N, ..., D), (N, ..., D) -> (N,), float32."""
        cosine = F.cosine_similarity(prediction.float(), target.float(), dim=-1, eps=self.eps)
        return self.scale * per_position(1 - cosine[:, None])
