"""Teaches pixels (MAE, SimMIM)."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from mimseg.outputs import Needs, TeacherOutput
from mimseg.registry import MODELS
from mimseg.teachers.base import Teacher


@MODELS.register_module()
class PixelTeacher(Teacher):
    """Each patch's pixels, flattened in the order (row, column, channel) (arXiv 2111.06377).

    Args:
        patch_size: side of a patch; None takes the student's.
    """

    def __init__(self, patch_size: int | None = None, **kwargs) -> None:
        super().__init__(**kwargs)
        self.patch_size = patch_size

    def bind(self, student: nn.Module) -> None:
        self.patch_size = self.patch_size or student.patch_size
        self.stride, self.out_channels = self.patch_size, 3 * self.patch_size**2

    def targets(self, images: Tensor, needs: Needs) -> TeacherOutput:
        """Whatever layer is asked for, it is the pixels: (B, L, p * p * 3)."""
        p = self.patch_size
        images = F.pad(images, (0, -images.shape[3] % p, 0, -images.shape[2] % p))
        b, c, height, width = images.shape
        grid = (height // p, width // p)
        x = images.reshape(b, c, grid[0], p, grid[1], p)
        tokens = x.permute(0, 2, 4, 3, 5, 1).reshape(b, grid[0] * grid[1], p * p * c)
        return TeacherOutput(grid, tokens=dict.fromkeys(needs.layers, tokens))

    def to_image(self, tokens: Tensor, grid: tuple[int, int]) -> Tensor:
        p = self.patch_size
        x = tokens.reshape(tokens.shape[0], *grid, p, p, 3).permute(0, 5, 1, 3, 2, 4)
        x = x.reshape(tokens.shape[0], 3, grid[0] * p, grid[1] * p)
        return (x * self.std + self.mean).clamp(0, 1)
