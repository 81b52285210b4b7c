"""InfoNCE."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mimseg.errors import require_positive
from mimseg.registry import MODELS


@MODELS.register_module()
class InfoNCELoss(nn.Module):
    """Tell a position's own target from the targets of all other positions (arXiv 1807.03748).

    Cross-entropy over cosines divided by a temperature: the positive is the target at the same
    position, the negatives are those at the other chosen positions of this rank's batch, of the
    same image and of others. Nothing is gathered from other ranks. Memory grows with N squared.

    Args:
        temperature: divides the cosines; the default is our choice.
    """

    # a patch that is hidden in two masks of an image would be its own negative
    one_mask = True

    def __init__(self, temperature: float = 0.1) -> None:
        super().__init__()
        require_positive("loss.temperature", temperature)
        self.temperature = temperature

    def forward(self, prediction: Tensor, target: Tensor) -> Tensor:
        """(N, D), (N, D) -> (N,), float32."""
        with torch.autocast(prediction.device.type, enabled=False):
            student = F.normalize(prediction.float(), dim=-1)
            teacher = F.normalize(target.float(), dim=-1)
            logits = student @ teacher.T / self.temperature
            own = torch.arange(len(logits), device=logits.device)
            return F.cross_entropy(logits, own, reduction="none")
