"""From masks to the patches that stay."""

from __future__ import annotations

import torch
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
