"""Draws block-wise masks with an exact count."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from mimseg.errors import UserError, require_at_least
from mimseg.masking.ratio import RatioMasking, highest
from mimseg.outputs import TeacherOutput
from mimseg.registry import MODELS

ATTEMPTS = 10  # rectangles tried for a block, as in BEiT
BLOCKS = 32  # blocks per mask at most, where they are of any size: see `draw`
FULL_GRID = 14 * 14  # the grid that BEiT's min_patches is for


@MODELS.register_module()
class BlockMasking(RatioMasking):
    """Mask rectangles of patches, one after the other, as BEiT (arXiv 2106.08254, algorithm 1).

    The count is exact, as in BEiT v2: a block is taken only if it brings a new patch and no more
    than are still to be masked; where none of ten rectangles fits, single patches, at random,
    make up the rest. A rectangle's area is uniform between `min_patches` and what is still to be
    masked, its aspect log-uniform, its place uniform.

    Args:
        ratio: share of masked patches; int(ratio * L) of L are masked: 78 of 14x14 and 102 of 16x16
            with 0.4. A count is had as a fraction: 75 / 196 masks 75 of 14x14, as BEiT v2 does.
        min_patches: smallest area aimed at.
        aspect: smallest and largest height over width.
        max_patches: the most new patches that a block may bring; None for as many as are left.
        scale_min_patches: on grids under 14x14, reduce min_patches in proportion to L, to 1 at
            least, so that a small grid still gets several blocks (our choice). False takes
            `min_patches` as it is, as BEiT does.
        num_masks: M, masks per image.
        seed: fixes the masks.

    Raises:
        UserError: an option that makes no block, or a ratio that leaves nothing masked or visible.
    """

    def __init__(
        self,
        ratio: float = 0.4,
        min_patches: int = 16,
        aspect: tuple[float, float] = (0.3, 1 / 0.3),
        max_patches: int | None = None,
        scale_min_patches: bool = True,
        num_masks: int = 1,
        seed: int | None = None,
    ) -> None:
        super().__init__(ratio, num_masks, seed)
        require_at_least("masking.min_patches", min_patches, 1)
        if max_patches is not None:
            require_at_least("masking.max_patches", max_patches, 1, fix="None for no limit")
        if len(aspect) != 2 or not 0 < aspect[0] <= aspect[1]:
            raise UserError("masking.aspect", aspect, expected="(smallest, largest), both above 0")
        self.min_patches, self.max_patches, self.aspect = min_patches, max_patches, tuple(aspect)
        self.scale_min_patches = scale_min_patches

    def share(self, length: int) -> int:
        # 75 / 196 * 196 may come out just under 75.
        return math.floor(self.ratio * length + 1e-6)

    def smallest_area(self, grid: tuple[int, int]) -> int:
        """`min_patches` for this grid."""
        part = min(1.0, grid[0] * grid[1] / FULL_GRID) if self.scale_min_patches else 1.0
        return max(1, round(self.min_patches * part))

    def draw(
        self,
        count: int,
        grid: tuple[int, int],
        generator: torch.Generator,
        teachers: dict[str, TeacherOutput],
    ) -> Tensor:
        device, total = generator.device, self.num_masked(grid)
        fill = torch.rand(count, grid[0] * grid[1], generator=generator, device=device)
        mask = torch.zeros(count, *grid, dtype=torch.bool, device=device)
        left = torch.full((count,), total, device=device)
        rows = torch.arange(grid[0], device=device)[:, None]
        columns = torch.arange(grid[1], device=device)
        # Rejected rectangles change nothing, so a block's ten attempts are made at once and the
        # first that fits is taken. The number of blocks is bounded instead of asked from the device
        # after each; a mask that is not full by then (under one in a million) is filled up
        # with single patches, as one is for which no block fits.
        small = 0 if self.max_patches is None else 4 * total // self.max_patches
        for _ in range(BLOCKS + small):
            top, leftmost, height, width, new = self._block(mask, left, grid, generator)
            inside = (rows >= top) & (rows < top + height)
            mask |= inside & ((columns >= leftmost) & (columns < leftmost + width))
            # A mask without a block is done: with 0 left it is given no further one.
            left = (left - new) * (new > 0)
            if device.type == "cpu" and not left.any():
                break
        return highest(mask.flatten(1) + fill, total)

    def _block(
        self, mask: Tensor, left: Tensor, grid: tuple[int, int], generator: torch.Generator
    ) -> tuple[Tensor, ...]:
        """The first of ten rectangles that fits, for each of N masks (N, h, w).

        Returns:
            Top, left, height and width, (N, 1, 1) each, and the new patches it brings (N,), 0 where
            none of the ten fits.
        """
        most = left if self.max_patches is None else left.clamp_max(self.max_patches)
        most = most[:, None]
        size = (4, len(mask), ATTEMPTS)
        area, aspect, y, x = torch.rand(size, generator=generator, device=mask.device)
        low, high = (math.log(bound) / 2 for bound in self.aspect)
        stretch = torch.exp(low + (high - low) * aspect)
        smallest = self.smallest_area(grid)
        side = (smallest + (most - smallest) * area).sqrt()
        height, width = (side * stretch).round().int(), (side / stretch).round().int()
        fits = (height < grid[0]) & (width < grid[1])
        height, width = height * fits, width * fits  # empty ones bring nothing new
        top = (y * (grid[0] + 1 - height)).int()
        leftmost = (x * (grid[1] + 1 - width)).int()

        # The masked patches in a rectangle come from the sums over all that start in the corner.
        sums = mask.cumsum(1, dtype=torch.int32).cumsum(2, dtype=torch.int32)
        sums = F.pad(sums, (1, 0, 1, 0)).flatten(1)
        above, below = top * (grid[1] + 1), (top + height) * (grid[1] + 1)
        right = leftmost + width
        corners = torch.cat([below + right, above + leftmost, above + right, below + leftmost], 1)
        at = sums.gather(1, corners.long()).view(-1, 4, ATTEMPTS)
        new = height * width - (at[:, 0] + at[:, 1] - at[:, 2] - at[:, 3])
        new = new * (new <= most)
        choice = (new > 0).to(torch.uint8).argmax(1, keepdim=True)  # the first of the equal ones
        rectangles = torch.stack([top, leftmost, height, width, new], 1)
        chosen = rectangles.gather(2, choice[:, None].expand(-1, 5, -1))
        top, leftmost, height, width, new = chosen.unbind(1)
        height = height * (new > 0)
        return *(v[..., None] for v in (top, leftmost, height, width)), new[:, 0]
