"""Measures the divergence of relations."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from mimseg.errors import UserError
from mimseg.losses.base import Loss
from mimseg.registry import MODELS


@MODELS.register_module()
class RelationKLLoss(Loss):
    """KL(softmax(target) || softmax(prediction)) of token relations.

    TinyMIM's loss (arXiv 2301.01296, Eq. 9), one value per query: summed over keys and over
    relations (QK and VV), averaged over heads. The logarithms are log_softmax's, in float32: the
    logarithm of a softmax's output would lose small relations.
    """

    def forward(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Scaled logits (N, R, heads, K) of both -> (N,), float32.

        Raises:
            UserError: no relations, or those of other heads or tokens on the two sides.
        """
        if prediction.shape != target.shape or prediction.dim() != 4:
            raise UserError(
                "loss.type",
                f"mimseg.RelationKLLoss on {tuple(prediction.shape)} and {tuple(target.shape)}",
                expected="relations (N, R, heads, K) of the same shape",
                fix="use it with mimseg.Relations and mimseg.RelationHead, as many heads on both "
                "sides (backbone.last_block_heads, or num_heads to regroup both) and a CLS token "
                "on both or neither (backbone.with_cls_token)",
            )
        student = prediction.float().log_softmax(-1)
        teacher = target.float().log_softmax(-1)
        divergence = F.kl_div(student, teacher, reduction="none", log_target=True).sum(-1)
        return divergence.mean(-1).sum(-1)
