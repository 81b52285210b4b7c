"""Defines the linear segmentation probe's head."""

from __future__ import annotations

from collections.abc import Sequence

from mmcv.cnn import build_norm_layer
from mmseg.models.decode_heads.decode_head import BaseDecodeHead
from torch import Tensor

from mimseg.registry import MODELS


@MODELS.register_module()
class LinearSegHead(BaseDecodeHead):
    """A batch norm and a 1x1 convolution on the backbone's maps.

    The head of DINOv2's linear segmentation (arXiv 2304.07193): the norm has weights of its own, as
    there, and brings features of any scale to one learning rate. None of mmseg's heads is linear
    with a norm.

    Args:
        in_channels: width of the map, or widths of several, which are resized to the first one's
            size and concatenated.
        in_index: which of the backbone's maps; None takes the last one, or, of several, the first
            ones.
        norm_cfg: the norm; SyncBN gives the statistics of all processes.
        dropout_ratio: dropout of whole channels before the convolution; none as in DINOv2.
        options: further ones of mmseg's BaseDecodeHead: num_classes, loss_decode, ignore_index.
    """

    def __init__(
        self,
        in_channels: int | Sequence[int],
        in_index: int | Sequence[int] | None = None,
        norm_cfg: dict | None = None,
        dropout_ratio: float = 0.0,
        **options,
    ) -> None:
        several = not isinstance(in_channels, int)
        if in_index is None:
            in_index = list(range(len(in_channels))) if several else -1
        super().__init__(
            in_channels,
            sum(in_channels) if several else in_channels,
            in_index=in_index,
            input_transform="resize_concat" if several else None,
            norm_cfg=norm_cfg or dict(type="BN"),
            dropout_ratio=dropout_ratio,
            **options,
        )
        self.norm = build_norm_layer(self.norm_cfg, self.in_channels)[1]

    def forward(self, inputs: Sequence[Tensor]) -> Tensor:
        """Maps (B, C, h, w) -> class scores (B, classes, h, w), of the first map's size."""
        return self.cls_seg(self.norm(self._transform_inputs(inputs)))
