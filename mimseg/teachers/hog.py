"""Teaches histograms of oriented gradients (MaskFeat)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from mmpretrain.models.selfsup.maskfeat import HOGGenerator
from torch import Tensor, nn

from mimseg.errors import UserError
from mimseg.outputs import Needs, TeacherOutput
from mimseg.registry import MODELS
from mimseg.teachers.base import Teacher


class _AnySizeHOG(HOGGenerator):
    """mmpretrain's generator for any image size.

    Its own takes square images of a whole number of windows, and cuts every map into 14 x 14
    patches, whatever the patch size.
    """

    def __init__(self, **kwargs) -> None:
        super().__init__(**kwargs)
        self.window = self.gaussian_window

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) float32 -> (B, 3, nbins, H / pool, W / pool)."""
        if not self.window:
            return super().forward(images)
        height, width = images.shape[2:]
        tiles = (-(-height // self.window), -(-width // self.window))
        weights = self.gaussian_kernel
        self.gaussian_kernel = weights.repeat(tiles)[:height, :width]
        self.gaussian_window = height  # the parent then takes its kernel as it is
        try:
            return super().forward(images)
        finally:
            self.gaussian_kernel, self.gaussian_window = weights, self.window

    def _reshape(self, histograms: Tensor) -> Tensor:
        self.out = None  # the parent keeps the batch alive otherwise
        return histograms


@MODELS.register_module()
class HOGTeacher(Teacher):
    """Histograms of oriented gradients of each patch (arXiv 2112.09133, section 3.2).

    Every cell of `pool` x `pool` pixels of every color channel has a histogram over unsigned
    directions, of unit L2 length. The computation is mmpretrain's HOGGenerator; the channels of a
    token are in its order, (color, bin, cell row, cell column).

    Args:
        nbins: bins of a histogram.
        pool: side of a cell in pixels; must divide the patch size.
        gaussian_window: side of the Gaussian windows that gradients are weighted by, tiled over
            the image and cut at its border; 0 for none.
        patch_size: side of a patch; None takes the student's.

    Raises:
        UserError: on binding, a cell size that does not divide the patch.
    """

    def __init__(
        self,
        nbins: int = 9,
        pool: int = 8,
        gaussian_window: int = 16,
        patch_size: int | None = None,
        **kwargs,
    ) -> None:
        super().__init__(**kwargs)
        for key, value, least in (
            ("nbins", nbins, 1),
            ("pool", pool, 1),
            ("gaussian_window", gaussian_window, 0),
        ):
            if not isinstance(value, int) or value < least:
                raise UserError(f"teacher.{key}", value, expected=f"a whole number from {least}")
        self.pool, self.patch_size, self.nbins = pool, patch_size, nbins
        self.generator = _AnySizeHOG(nbins=nbins, pool=pool, gaussian_window=gaussian_window)

    def bind(self, student: nn.Module) -> None:
        self.patch_size = self.patch_size or student.patch_size
        if self.patch_size % self.pool:
            divisors = [d for d in range(1, self.patch_size + 1) if self.patch_size % d == 0]
            raise UserError(
                "teacher.pool",
                self.pool,
                expected=f"a divisor of the patch size {self.patch_size}",
                fix=f"one of {divisors}",
            )
        self.stride = self.patch_size
        self.out_channels = 3 * self.nbins * (self.patch_size // self.pool) ** 2

    def targets(self, images: Tensor, needs: Needs) -> TeacherOutput:
        """Whatever layer is asked for, it is the histograms: (B, L, 3 * nbins * cells)."""
        p = self.patch_size
        images = F.pad(images, (0, -images.shape[3] % p, 0, -images.shape[2] % p))
        grid = (images.shape[2] // p, images.shape[3] // p)
        with torch.autocast(images.device.type, enabled=False):  # bfloat16 would blur directions
            histograms = self.generator(images.float()).flatten(1, 2)
        b, channels, cells = *histograms.shape[:2], p // self.pool
        x = histograms.reshape(b, channels, grid[0], cells, grid[1], cells)
        tokens = x.permute(0, 2, 4, 1, 3, 5).reshape(b, grid[0] * grid[1], self.out_channels)
        return TeacherOutput(grid, tokens=dict.fromkeys(needs.layers, tokens))
