"""Drops residual branches while training."""

from __future__ import annotations

from torch import Tensor, nn


class DropPath(nn.Module):
    """Drop a residual branch for whole samples while training (arXiv 1603.09382).

    Args:
        rate: probability that a sample's branch is dropped; kept ones are divided by 1 - rate.
    """

    def __init__(self, rate: float = 0.0) -> None:
        super().__init__()
        self.rate = float(rate)  # a plain float: numpy scalars break torch.compile's full graphs

    def forward(self, x: Tensor) -> Tensor:
        """x: (B, ...), same shape out."""
        if self.rate == 0.0 or not self.training:
            return x
        keep = 1.0 - self.rate
        mask = x.new_empty(x.shape[0], *[1] * (x.ndim - 1)).bernoulli_(keep)
        return x * (mask / keep)

    def extra_repr(self) -> str:
        return f"rate={self.rate}"
