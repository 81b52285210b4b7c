"""Draws masks that leave blocks of patches visible."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from mimseg.errors import UserError, require_at_least
from mimseg.masking.ratio import RatioMasking, highest
from mimseg.outputs import TeacherOutput
from mimseg.registry import MODELS


@MODELS.register_module()
class InverseBlockMasking(RatioMasking):
    """Keep square blocks of patches visible and mask the rest (data2vec 2.0, arXiv 2212.07525).

    L * (1 - ratio + adjust) / block^2 centers are drawn without replacement, and the square around
    each, cut at the border, is kept. Squares overlap, so single patches, at random, are then
    masked or unmasked until the count is exact.

    Args:
        ratio: share of masked patches; L - floor(L * (1 - ratio)) of L are masked.
        block: side of a visible square, in patches.
        adjust: share of patches that is drawn beyond 1 - ratio, to make up for the overlap. The
            defaults of the three are data2vec 2.0's for images, from memory.
        num_masks: M, masks per image.
        seed: fixes the masks.

    Raises:
        UserError: an option that makes no square, or a ratio that leaves nothing masked or visible.
    """

    def __init__(
        self,
        ratio: float = 0.8,
        block: int = 3,
        adjust: float = 0.07,
        num_masks: int = 1,
        seed: int | None = None,
    ) -> None:
        super().__init__(ratio, num_masks, seed)
        require_at_least("masking.block", block, 1)
        if not 0 <= adjust <= ratio:
            raise UserError("masking.adjust", adjust, expected=f"0 to the ratio, {ratio}")
        self.block, self.adjust = block, adjust

    def num_centers(self, grid: tuple[int, int]) -> int:
        """Squares per mask, at least one."""
        length = grid[0] * grid[1]
        return max(1, int(length * (1 - self.ratio + self.adjust) / self.block**2))

    def draw(
        self,
        count: int,
        grid: tuple[int, int],
        generator: torch.Generator,
        teachers: dict[str, TeacherOutput],
    ) -> Tensor:
        visible = grid[0] * grid[1] - self.num_masked(grid)
        size = (2, count, grid[0] * grid[1])
        place, noise = torch.rand(size, generator=generator, device=generator.device)
        centers = highest(place, self.num_centers(grid)).view(count, 1, *grid).float()
        before = (self.block - 1) // 2
        after = self.block - 1 - before
        squares = F.max_pool2d(F.pad(centers, (after, before, after, before)), self.block, stride=1)
        return ~highest(squares.flatten(1) + noise, visible)
