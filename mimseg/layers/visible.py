"""Selects the visible patches of masks."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def visible_indices(mask: Tensor, num_masked: int | None = None) -> Tensor:
    """(N, L) bool, True = masked -> (N, K) indices of the visible patches, ascending.

    Args:
        mask: every row must mask the same number of patches.
        num_masked: that number; None reads it from the mask and checks every row.
    """
    if num_masked is None:
        counts = mask.sum(1)
        num_masked = int(counts[0])
        if not bool((counts == num_masked).all()):
            raise ValueError("mask_mode = 'drop' needs masks with equal counts; use 'token'")
    order = mask.to(torch.uint8).argsort(dim=1, stable=True)
    return order[:, : mask.shape[1] - num_masked]


def visible_bias(bias: Tensor | None, visible: Tensor | None, with_cls: bool) -> Tensor | None:
    """An attention bias among visible tokens.

    Args:
        bias: (heads, [1 +] L, [1 +] L) among all tokens, or None.
        visible: (N, K) indices of the visible patches; None where no patch was dropped.
        with_cls: whether the CLS token comes first.

    Returns:
        (N, heads, [1 +] K, [1 +] K), or `bias` where no patch was dropped.
    """
    if bias is None or visible is None:
        return bias
    if with_cls:
        visible = F.pad(visible + 1, (1, 0))
    return bias[:, visible[:, :, None], visible[:, None, :]].transpose(0, 1)
