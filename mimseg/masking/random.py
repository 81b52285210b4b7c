"""Uniformly random masks."""

from __future__ import annotations

import torch
from torch import Tensor

from mimseg.algorithms.outputs import TeacherOutput
from mimseg.errors import UserError
from mimseg.masking.base import Masking
from mimseg.registry import MODELS


@MODELS.register_module()
class RandomMasking(Masking):
    """Mask a fixed share of the patches, uniformly at random (arXiv 2111.06377, section 3).

    Args:
        ratio: share of masked patches; L - int(L * (1 - ratio)) of L are masked, as in MAE.
        num_masks: M, masks an image.
        seed: fixes the masks.

    Raises:
        UserError: a ratio outside (0, 1), or one that leaves nothing masked or visible on a grid.
    """

    def __init__(self, ratio: float = 0.75, num_masks: int = 1, seed: int | None = None) -> None:
        super().__init__(num_masks, seed)
        if not 0 < ratio < 1:
            raise UserError("masking.ratio", ratio, "a share between 0 and 1, both excluded")
        self.ratio = ratio

    def num_masked(self, grid: tuple[int, int]) -> int:
        length = grid[0] * grid[1]
        masked = length - int(length * (1 - self.ratio))
        if not 0 < masked < length:
            raise UserError(
                "masking.ratio",
                self.ratio,
                f"a share that leaves masked and visible patches on a {grid[0]}x{grid[1]} grid",
                "another ratio, a larger image or a smaller patch",
            )
        return masked

    def draw(
        self,
        count: int,
        grid: tuple[int, int],
        generator: torch.Generator,
        teachers: dict[str, TeacherOutput],
    ) -> Tensor:
        noise = torch.rand(count, grid[0] * grid[1], generator=generator, device=generator.device)
        masked = noise.argsort(dim=1)[:, : self.num_masked(grid)]
        mask = torch.zeros_like(noise, dtype=torch.bool)
        return mask.scatter_(1, masked, True)
