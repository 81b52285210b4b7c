"""Draws uniformly random masks."""

from __future__ import annotations

import torch
from torch import Tensor

from mimseg.errors import UserError, require_at_least
from mimseg.masking.ratio import RatioMasking, highest
from mimseg.outputs import TeacherOutput
from mimseg.registry import MODELS


@MODELS.register_module()
class RandomMasking(RatioMasking):
    """Mask a fixed share of the patches, uniformly at random (arXiv 2111.06377, section 3).

    Args:
        ratio: share of masked patches; L - floor(L * (1 - ratio)) of L are masked, as in MAE.
        num_masks: M, masks per image.
        seed: fixes the masks.
        unit: side, in patches, of the squares that are masked as a whole: 2 masks squares of 32 px
            where a patch has 16 (SimMIM, arXiv 2111.09886, section 3.2). The count is that of
            the squares, and exact.

    Raises:
        UserError: a ratio outside (0, 1), or one that leaves nothing masked or visible on a grid;
            a grid that is not a whole number of units.
    """

    def __init__(
        self,
        ratio: float = 0.75,
        num_masks: int = 1,
        seed: int | None = None,
        unit: int = 1,
    ) -> None:
        super().__init__(ratio, num_masks, seed)
        require_at_least("masking.unit", unit, 1)
        self.unit = unit

    def num_masked(self, grid: tuple[int, int]) -> int:
        units = self._units(grid)
        return self.checked_share(units[0] * units[1], grid) * self.unit**2

    def draw(
        self,
        count: int,
        grid: tuple[int, int],
        generator: torch.Generator,
        teachers: dict[str, TeacherOutput],
    ) -> Tensor:
        masked = self.num_masked(grid) // self.unit**2
        units = self._units(grid)
        noise = torch.rand(count, units[0] * units[1], generator=generator, device=generator.device)
        mask = highest(-noise, masked)
        if self.unit > 1:
            mask = mask.view(count, *units)
            mask = mask.repeat_interleave(self.unit, 1).repeat_interleave(self.unit, 2).flatten(1)
        return mask

    def _units(self, grid: tuple[int, int]) -> tuple[int, int]:
        if grid[0] % self.unit or grid[1] % self.unit:
            raise UserError(
                "masking.unit",
                self.unit,
                expected="a number of patches that divides both sides of the "
                f"{grid[0]}x{grid[1]} grid",
                fix="another unit, or another image size",
            )
        return grid[0] // self.unit, grid[1] // self.unit
