"""Cross-entropy."""

from __future__ import annotations

from torch import Tensor, nn

from mimseg.errors import require_positive
from mimseg.losses.per_position import per_position
from mimseg.registry import MODELS


@MODELS.register_module()
class CrossEntropyLoss(nn.Module):
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
        """Logits (N, D), or K predictions a position (N, K, D), which are averaged -> (N,).

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
