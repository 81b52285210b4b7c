"""Averages over the batches of all ranks."""

from __future__ import annotations

import torch
from mmengine.dist import all_reduce
from torch import Tensor


def mean_over_ranks(total: Tensor, count: int) -> Tensor:
    """Divide the sum of all ranks' totals by the sum of their counts.

    Args:
        total: this rank's sum, of any shape, the same on every rank.
        count: how many values went into it; ranks may differ.
    """
    packed = torch.cat([total.flatten(), total.new_full((1,), count)])
    all_reduce(packed)
    return (packed[:-1] / packed[-1]).view_as(total)
