"""Turns images into patch tokens."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from mimseg.layers.position import is_known


class PatchEmbed(nn.Module):
    """Non-overlapping patches, each projected to the width. Pads right and bottom with zeros."""

    def __init__(self, in_channels: int, dims: int, patch: int) -> None:
        super().__init__()
        self.patch = patch
        self.projection = nn.Conv2d(in_channels, dims, patch, patch)

    def forward(self, images: Tensor) -> tuple[Tensor, tuple[int, int]]:
        """(B, 3, H, W) -> tokens (B, h * w, C) and the grid (h, w), h = ceil(H / patch)."""
        sides, patch = images.shape[2:], self.patch
        # (side + patch - 1) // patch: ONNX divides negative numbers otherwise than Python
        pad_h, pad_w = ((side + patch - 1) // patch * patch - side for side in sides)
        if not is_known(sides) or pad_h or pad_w:
            images = F.pad(images, (0, pad_w, 0, pad_h))
        maps = self.projection(images)
        return maps.flatten(2).transpose(1, 2), (maps.shape[2], maps.shape[3])
