"""Makes one image ready for a network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from mimseg.errors import UserError

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

ImageLike = str | Path | Image.Image | np.ndarray


@dataclass
class Transform:
    """Resizes, crops and normalizes an image.

    Args:
        mean, std: of RGB in [0, 1].
        size: side, or (H, W): the image is resized (bicubic, antialiased) until it covers that,
            and the center is cut out. None keeps the image's size.
        bgr: whether the network takes blue first, as models do whose data preprocessor leaves the
            channels as OpenCV reads them.
    """

    mean: Sequence[float] = IMAGENET_MEAN
    std: Sequence[float] = IMAGENET_STD
    size: int | tuple[int, int] | None = None
    bgr: bool = False

    def __post_init__(self) -> None:
        for name in ("mean", "std"):
            if len(getattr(self, name)) != 3:
                raise UserError(
                    name, getattr(self, name), expected="three numbers, one per channel"
                )

    def __call__(self, image: ImageLike) -> Tensor:
        """Path, PIL image or uint8 array ((H, W, 3) RGB, or (H, W) gray) -> (3, H, W) float32.

        Raises:
            UserError: the file is no image that opens, or the array is of another kind.
        """
        rgb = read_rgb(image)
        if self.size is not None:
            rgb = _cover(rgb, (self.size, self.size) if isinstance(self.size, int) else self.size)
        x = torch.from_numpy(np.array(rgb)).permute(2, 0, 1).float() / 255
        mean, std = (torch.tensor(v).view(3, 1, 1) for v in (self.mean, self.std))
        x = (x - mean) / std
        return x.flip(0) if self.bgr else x


def read_rgb(image: ImageLike) -> Image.Image:
    """Path, PIL image or uint8 array -> an upright RGB image.

    Raises:
        UserError: the file is no image that opens, or the array is of another kind.
    """
    try:
        if isinstance(image, np.ndarray):
            image = Image.fromarray(_bytes(image))
        if isinstance(image, (str, Path)):
            with Image.open(Path(image).expanduser()) as file:
                return ImageOps.exif_transpose(file).convert("RGB")
        return ImageOps.exif_transpose(image).convert("RGB")
    except OSError as error:  # of Pillow too, for what it does not know or cannot decode
        raise UserError("image", str(image), expected=f"an image that opens ({error})") from error


def _bytes(array: np.ndarray) -> np.ndarray:
    if array.dtype != np.uint8 or array.ndim < 2 or array.shape[2:] not in ((), (3,)):
        raise UserError(
            "image",
            f"array of {array.dtype}, shape {array.shape}",
            expected="uint8 values of shape (H, W, 3) or (H, W)",
        )
    return array


def _cover(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    """Resize an image until it covers (H, W), keeping its proportions, and cut out the center."""
    height, width = size
    scale = max(height / image.height, width / image.width)
    new = max(width, round(image.width * scale)), max(height, round(image.height * scale))
    if new != image.size:
        image = image.resize(new, Image.Resampling.BICUBIC)
    left, top = (new[0] - width) // 2, (new[1] - height) // 2
    return image.crop((left, top, left + width, top + height))
