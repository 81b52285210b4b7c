"""Counts the masked patches of generators that mask a fixed share."""

from __future__ import annotations

import torch
from torch import Tensor

from mimseg.errors import UserError
from mimseg.masking.base import Masking


class RatioMasking(Masking):
    """Base of the generators with one exact count, which follows the grid.

    Args:
        ratio: share of masked patches; L - floor(L * (1 - ratio)) of L are masked, as in MAE
            (arXiv 2111.06377), unless the subclass counts otherwise.
        num_masks: M, masks per image.
        seed: fixes the masks.

    Raises:
        UserError: a ratio outside (0, 1), or one that leaves nothing masked or visible on a grid.
    """

    def __init__(self, ratio: float, num_masks: int = 1, seed: int | None = None) -> None:
        super().__init__(num_masks, seed)
        if not 0 < ratio < 1:
            raise UserError(
                "masking.ratio",
                ratio,
                expected="a share between 0 and 1, both excluded",
                fix="0.75 masks three patches of four; masking=None shows the student all of them",
            )
        self.ratio = ratio

    def share(self, length: int) -> int:
        """How many of `length` are masked."""
        visible = length * (1 - self.ratio)
        return length - int(visible + 1e-6)  # 400 * (1 - 0.8) is 79.99999999999999

    def num_masked(self, grid: tuple[int, int]) -> int:
        """Masked patches per mask, the same for every mask."""
        return self.checked_share(grid[0] * grid[1], grid)

    def checked_share(self, length: int, grid: tuple[int, int]) -> int:
        """`share`, or a UserError where nothing would be masked, or all."""
        masked = self.share(length)
        if not 0 < masked < length:
            raise UserError(
                "masking.ratio",
                self.ratio,
                expected="a share that leaves masked and visible patches on a "
                f"{grid[0]}x{grid[1]} grid",
                fix="another ratio, a larger image or a smaller patch",
            )
        return masked


def highest(scores: Tensor, count: int) -> Tensor:
    """True at the `count` highest scores of each row of (N, L)."""
    chosen = scores.topk(count, dim=1, sorted=False).indices
    return torch.zeros_like(scores, dtype=torch.bool).scatter_(1, chosen, True)
