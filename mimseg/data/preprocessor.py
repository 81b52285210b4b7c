"""Prepares batches of views on the device."""

from __future__ import annotations

from mmengine.model import BaseDataPreprocessor
from torch import Tensor

from mimseg.registry import MODELS


@MODELS.register_module()
class MIMDataPreprocessor(BaseDataPreprocessor):
    """Moves a batch to the device and gives RGB in [0, 1] as {"student", "teacher"}.

    A batch of plain images (mmpretrain's PackInputs) is both views. Nothing is normalized here: the
    algorithm applies each network's own mean and std.

    Args:
        to_rgb: swap the channels; OpenMMLab loads BGR.
    """

    def __init__(self, to_rgb: bool = True, non_blocking: bool = True) -> None:
        super().__init__(non_blocking)
        self.to_rgb = to_rgb

    def forward(self, data: dict, training: bool = False) -> dict:
        """data["inputs"]: (B, 3, H, W) uint8, or {"student": ..., "teacher": ...} of them."""
        data = self.cast_data(data)
        views = data["inputs"]
        if not isinstance(views, dict):
            views = {"student": views}
        out = {name: self._convert(view) for name, view in views.items()}
        out.setdefault("teacher", out["student"])
        return {"inputs": out, "data_samples": data.get("data_samples")}

    def _convert(self, images: Tensor) -> Tensor:
        images = images.flip(1) if self.to_rgb else images
        return images.float() / 255
