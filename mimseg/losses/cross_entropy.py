"""Classifies: over a vocabulary, over a distribution's entries, or among positions."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from mimseg.errors import require_positive
from mimseg.losses.base import Loss, per_position
from mimseg.registry import MODELS


@MODELS.register_module()
class CrossEntropyLoss(Loss):
    """Cross-entropy with a tokenizer's ids (BEiT) or with distributions (DINO, MSN).

    Args:
        temperature: of the student: its logits are divided by this. A teacher's own temperature is
            the normalization's.
    """

    def __init__(self, temperature: float = 1.0) -> None:
        super().__init__()
        require_positive("loss.temperature", temperature)
        self.temperature = temperature

    def forward(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Logits (N, D), or K predictions per position (N, K, D), which are averaged -> (N,).

        Args:
            prediction: logits.
            target: ids (N,), long, or distributions (N, D).
        """
        log_probability = (prediction.float() / self.temperature).log_softmax(-1)
        if log_probability.dim() == 2:
            log_probability = log_probability[:, None]
        if target.is_floating_point():
            values = (target.float()[:, None] * log_probability).sum(-1)
        else:
            index = target[:, None, None].expand(-1, log_probability.shape[1], 1)
            values = log_probability.gather(2, index)
        return -per_position(values)


@MODELS.register_module()
class InfoNCELoss(Loss):
    """Tell a position's target from the targets of all other positions (arXiv 1807.03748).

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
            positives = torch.arange(len(logits), device=logits.device)
            return F.cross_entropy(logits, positives, reduction="none")
