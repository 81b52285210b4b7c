"""Makes views of one image for student and teacher."""

from __future__ import annotations

import random

import numpy as np
import torch
from mmcv.transforms import BaseTransform
from PIL import Image
from torchvision.transforms.v2 import ColorJitter

from mimseg.errors import require_choice
from mimseg.registry import TRANSFORMS

_INTERPOLATION = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}


@TRANSFORMS.register_module()
class MIMViews(BaseTransform):
    """Random resized crop and flip: the same geometry for both views, each its own size and color.

    Takes `img` (H, W, 3) uint8 BGR and gives inputs = {"student", "teacher"}, (3, size, size) uint8
    BGR; without `teacher` the student's view serves both. Resizing is antialiased.

    Args:
        student: dict(size, color_jitter); color_jitter is the strength of brightness, contrast and
            saturation.
        teacher: the same for the teacher; None when both see one view.
        scale: the crop's share of the image's area.
        ratio: the crop's width over height.
        flip_prob: probability of a horizontal flip.
        color_jitter: strength for both views, before the crop (BEiT v2).
        interpolation: "bicubic" or "bilinear".
    """

    def __init__(
        self,
        student: dict,
        teacher: dict | None = None,
        scale: tuple[float, float] = (0.2, 1.0),
        ratio: tuple[float, float] = (3 / 4, 4 / 3),
        flip_prob: float = 0.5,
        color_jitter: float = 0.0,
        interpolation: str = "bicubic",
    ) -> None:
        require_choice("interpolation", interpolation, _INTERPOLATION)
        self.views = {"student": _view(**student)}
        if teacher is not None:
            self.views["teacher"] = _view(**teacher)
        self.scale, self.ratio, self.flip_prob = scale, ratio, flip_prob
        self.jitter = _jitter(color_jitter)
        self.resample = _INTERPOLATION[interpolation]

    def transform(self, results: dict) -> dict:
        image = Image.fromarray(np.ascontiguousarray(results["img"][..., ::-1]))
        box = self._crop(image.width, image.height)
        flip = random.random() < self.flip_prob
        if self.jitter is not None:
            image = self.jitter(image)
        inputs = {}
        for name, (size, jitter) in self.views.items():
            view = image.resize((size, size), self.resample, box=box)
            if flip:
                view = view.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
            if jitter is not None:
                view = jitter(view)
            bgr = np.asarray(view)[..., ::-1].transpose(2, 0, 1)
            inputs[name] = torch.from_numpy(np.ascontiguousarray(bgr))
        return {"inputs": inputs}

    def _crop(self, width: int, height: int) -> tuple[int, int, int, int]:
        """A random box (left, top, right, bottom); the largest central one after ten misses."""
        for _ in range(10):
            area = random.uniform(*self.scale) * width * height
            ratio = np.exp(random.uniform(*np.log(self.ratio)))
            w, h = round((area * ratio) ** 0.5), round((area / ratio) ** 0.5)
            if 0 < w <= width and 0 < h <= height:
                left, top = random.randint(0, width - w), random.randint(0, height - h)
                return left, top, left + w, top + h
        w = min(width, round(height * self.ratio[1]))
        h = min(height, round(width / self.ratio[0]))
        left, top = (width - w) // 2, (height - h) // 2
        return left, top, left + w, top + h


def _view(size: int, color_jitter: float = 0.0) -> tuple[int, ColorJitter | None]:
    return size, _jitter(color_jitter)


def _jitter(strength: float) -> ColorJitter | None:
    return ColorJitter(strength, strength, strength) if strength else None
