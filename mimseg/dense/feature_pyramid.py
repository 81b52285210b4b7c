"""Builds a pyramid from several maps of one scale."""

from __future__ import annotations

from collections.abc import Sequence

from mmengine.model import BaseModule
from torch import Tensor, nn

from mimseg.dense.resize import ChannelNorm, resize_layers
from mimseg.errors import UserError, require_choice
from mimseg.registry import MODELS

_NORMS = {"LN": ChannelNorm, "BN": nn.BatchNorm2d, "SyncBN": nn.SyncBatchNorm}


@MODELS.register_module()
class FeaturePyramid(BaseModule):
    """One level per map, each resized by itself, with the same channels (BEiT's and MAE's UperNet).

    Args:
        in_channels: width of the maps, and of the levels.
        scales: size of each level over its map's: 4, 2, 1 or 0.5.
        norm: "LN", "BN" or "SyncBN" inside the fourfold level. The official codes use SyncBN,
            which no CPU runs; LN, our default, needs no statistics over images or processes.
    """

    def __init__(
        self,
        in_channels: int,
        scales: Sequence[float] = (4, 2, 1, 0.5),
        norm: str = "LN",
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg)
        require_choice("neck.norm", norm, _NORMS)
        self.levels = nn.ModuleList(
            nn.Sequential(*resize_layers(in_channels, scale, 1, _NORMS[norm])) for scale in scales
        )

    def forward(self, inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Maps (B, C, h, w), as many as scales -> the resized maps, in the same order."""
        if len(inputs) != len(self.levels):
            raise UserError(
                "backbone.out_indices",
                f"{len(inputs)} maps",
                expected=f"{len(self.levels)}, one for each of neck.scales",
            )
        return tuple(level(x) for level, x in zip(self.levels, inputs, strict=True))
