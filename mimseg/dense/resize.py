"""Brings a map to another scale, as plain vision transformers' pyramids do."""

from __future__ import annotations

from torch import Tensor, nn

from mimseg.errors import UserError


class ChannelNorm(nn.LayerNorm):
    """LayerNorm over the channels of a map (B, C, H, W); epsilon as in ViTDet's code."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, eps=1e-6)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


def resize_layers(channels: int, scale: float, shrink: int, norm: type[nn.Module]) -> list:
    """Layers that resize (B, C, h, w) by `scale`: 4, 2, 1 or 0.5.

    Args:
        channels: C.
        shrink: each transposed convolution divides the channels by it (ViTDet 2, BEiT 1).
        norm: the norm between two transposed convolutions, made as norm(channels).
    """
    if scale == 4:
        half = channels // shrink
        return [
            nn.ConvTranspose2d(channels, half, 2, 2),
            norm(half),
            nn.GELU(),
            nn.ConvTranspose2d(half, half // shrink, 2, 2),
        ]
    if scale == 2:
        return [nn.ConvTranspose2d(channels, channels // shrink, 2, 2)]
    if scale == 1:
        return []
    if scale == 0.5:
        return [nn.MaxPool2d(2, 2)]
    raise UserError("neck.scales", scale, expected="4, 2, 1 or 0.5")
