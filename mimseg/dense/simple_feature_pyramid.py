"""Builds a pyramid from the last map of a plain vision transformer."""

from __future__ import annotations

from collections.abc import Sequence

from mmengine.model import BaseModule
from torch import Tensor, nn

from mimseg.dense.resize import ChannelNorm, resize_layers
from mimseg.registry import MODELS


@MODELS.register_module()
class SimpleFeaturePyramid(BaseModule):
    """ViTDet's simple feature pyramid (arXiv 2203.16527, section 3).

    The last of the given maps is brought to each scale by transposed convolutions or pooling,
    then to `out_channels` by a 1x1 and a 3x3 convolution, each followed by a layer norm, which
    needs no statistics over processes.

    Args:
        in_channels: width of the backbone's map.
        out_channels: width of every level.
        scales: size of each level over the map's: 4, 2, 1 and 0.5 in ViTDet.
        num_outs: levels to give; those beyond `scales` are every second pixel of the last one.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int = 256,
        scales: Sequence[float] = (4, 2, 1, 0.5),
        num_outs: int | None = None,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg)
        self.levels = nn.ModuleList(_level(in_channels, out_channels, scale) for scale in scales)
        self.extra = (num_outs or len(scales)) - len(scales)
        self.subsample = nn.MaxPool2d(1, 2)

    def forward(self, inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Maps (B, C, h, w), of which the last is used -> one map per level, finest first."""
        outs = [level(inputs[-1]) for level in self.levels]
        for _ in range(self.extra):
            outs.append(self.subsample(outs[-1]))
        return tuple(outs)


def _level(channels: int, out: int, scale: float) -> nn.Sequential:
    width = {4: channels // 4, 2: channels // 2}.get(scale, channels)
    return nn.Sequential(
        *resize_layers(channels, scale, 2, ChannelNorm),
        nn.Conv2d(width, out, 1, bias=False),
        ChannelNorm(out),
        nn.Conv2d(out, out, 3, padding=1, bias=False),
        ChannelNorm(out),
    )
