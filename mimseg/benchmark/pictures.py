"""Turns images, masks, labels and features into pictures."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

SHORT_SIDE = 240  # small images are enlarged by whole pixels to at least this
PALETTE = np.array(
    [
        [230, 85, 70],
        [52, 120, 220],
        [60, 165, 90],
        [245, 175, 50],
        [150, 90, 200],
        [30, 175, 190],
        [225, 110, 165],
        [140, 110, 75],
        [125, 135, 145],
        [175, 195, 60],
        [90, 75, 140],
        [240, 140, 95],
    ],
    dtype=np.uint8,
)


def colors_of(count: int, palette: list | None = None) -> np.ndarray:
    """(count, 3) uint8 RGB: the dataset's palette if it has enough colors, else ours, repeated."""
    if palette is not None and not isinstance(palette, str) and len(palette) >= count:
        return np.asarray(palette[:count], dtype=np.uint8)
    return PALETTE[np.arange(count) % len(PALETTE)]


def enlarge(image: np.ndarray) -> np.ndarray:
    """(H, W, 3) enlarged by whole pixels until its short side is at least SHORT_SIDE."""
    factor = scale_of(image)
    return image.repeat(factor, axis=0).repeat(factor, axis=1)


def scale_of(image: np.ndarray) -> int:
    """The whole factor by which `enlarge` enlarges."""
    return max(1, -(-SHORT_SIDE // min(image.shape[:2])))


def save(path: Path, image: np.ndarray) -> str:
    """Write (H, W, 3) uint8 RGB as JPEG; returns the file's name."""
    Image.fromarray(image).save(path, quality=88, subsampling=0)
    return path.name


def to_bytes(image: np.ndarray) -> np.ndarray:
    """(3, H, W) floats in [0, 1] -> (H, W, 3) uint8."""
    return (np.clip(image, 0, 1) * 255 + 0.5).astype(np.uint8).transpose(1, 2, 0)


def hide(image: np.ndarray, mask: np.ndarray, grid: tuple[int, int]) -> np.ndarray:
    """`image` (H, W, 3) with the masked patches, `mask` (L,) True, in light grey."""
    picture = image.copy()
    picture[_to_pixels(mask.reshape(grid), image.shape[:2])] = (226, 230, 236)
    return picture


def feature_maps(target: np.ndarray, *others: np.ndarray) -> list[np.ndarray]:
    """Token features as RGB: the target's three main components, the same ones for the others.

    Args:
        target: (N, D) tokens of all images; the components and color ranges are fitted on them.
        others: (N, D) tokens that are picture in the same colors.

    Returns:
        One (N, 3) uint8 array each.
    """
    mean = target.mean(axis=0)
    _, _, axes = np.linalg.svd(target - mean, full_matrices=False)
    axes = axes[:3]
    if len(axes) < 3:
        axes = np.concatenate([axes, np.zeros((3 - len(axes), axes.shape[1]))])
    low, high = np.percentile((target - mean) @ axes.T, [2, 98], axis=0)
    wide = np.maximum(high - low, 1e-6)
    maps = [np.clip(((x - mean) @ axes.T - low) / wide, 0, 1) for x in (target, *others)]
    return [(x * 255 + 0.5).astype(np.uint8) for x in maps]


def tokens_to_image(colors: np.ndarray, grid: tuple[int, int], size: tuple[int, int]) -> np.ndarray:
    """(L, 3) colors of patches -> (H, W, 3)."""
    return _to_pixels(colors.reshape(*grid, 3), size)


def overlay_labels(image: np.ndarray, labels: np.ndarray, colors: np.ndarray) -> np.ndarray:
    """`image` under the colors of `labels` (H, W); labels beyond the colors stay grey."""
    picture = image.mean(axis=-1, keepdims=True).repeat(3, axis=-1) * 0.3  # grey: colors are labels
    known = labels < len(colors)
    picture[known] += 0.7 * colors[labels[known]]
    picture[~known] += 0.7 * 245
    return enlarge(picture.astype(np.uint8))


def overlay_objects(
    image: np.ndarray,
    boxes: np.ndarray,
    labels: np.ndarray,
    colors: np.ndarray,
    masks: np.ndarray | None = None,
    captions: list[str] | None = None,
) -> np.ndarray:
    """Boxes (N, 4) xyxy, and masks (N, H, W) where there are some, on `image` in grey.

    Grey, so that every color is a class.
    """
    picture = 40 + 0.84 * image.mean(axis=-1, keepdims=True).repeat(3, axis=-1)
    for mask, label in zip(masks if masks is not None else [], labels, strict=False):
        picture[mask] = 0.5 * picture[mask] + 0.5 * colors[label]
    factor = scale_of(image)
    picture = Image.fromarray(enlarge(picture.astype(np.uint8)))
    draw = ImageDraw.Draw(picture)
    font = ImageFont.load_default(12)
    for number, (box, label) in enumerate(zip(boxes, labels, strict=True)):
        color = tuple(int(c) for c in colors[label])
        x1, y1, x2, y2 = (float(v) * factor for v in box)
        draw.rectangle((x1, y1, max(x1, x2 - 1), max(y1, y2 - 1)), outline=color, width=2)
        if captions:
            text = captions[number]
            wide = draw.textlength(text, font=font) + 6
            left = min(max(0.0, x1), max(0.0, picture.width - wide))
            top = max(0.0, y1 - 15)
            draw.rectangle((left, top, left + wide, top + 15), fill=color)
            draw.text((left + 3, top), text, fill=(255, 255, 255), font=font)
    return np.asarray(picture)


def _to_pixels(cells: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Enlarge an array over the grid (h, w, ...) to (H, W, ...), nearest."""
    rows = np.arange(size[0]) * cells.shape[0] // size[0]
    columns = np.arange(size[1]) * cells.shape[1] // size[1]
    return cells[rows][:, columns]
