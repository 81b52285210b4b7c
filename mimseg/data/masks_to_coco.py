"""Makes COCO instances of label maps: each connected component of a class is one object."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from mimseg.data import coco as coco_format
from mimseg.errors import UserError

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp")


def components(labels: np.ndarray, label: int, min_area: int = 1) -> list[np.ndarray]:
    """Return the masks (H, W) of the 8-connected regions of one label, largest first.

    Two objects of the class that touch become one: a label map does not tell them apart.
    """
    binary = (labels == label).astype(np.uint8)
    count, regions, stats, _ = cv2.connectedComponentsWithStats(binary, connectivity=8)
    areas = {number: int(stats[number, cv2.CC_STAT_AREA]) for number in range(1, count)}
    order = sorted(areas, key=areas.get, reverse=True)
    return [regions == number for number in order if areas[number] >= min_area]


def _read_labels(path: Path, image: Path) -> np.ndarray:
    if not path.is_file():
        raise UserError("ANNOTATIONS", str(path), expected=f"the label map of {image.name}")
    try:
        labels = np.array(Image.open(path))  # the indices of a palette image, not its colours
        with Image.open(image) as opened:
            width, height = opened.size
    except OSError as error:
        raise UserError(
            "IMAGES, ANNOTATIONS", str(path), expected=f"files that open ({error})"
        ) from error
    if labels.ndim != 2:
        raise UserError(
            "ANNOTATIONS", str(path), expected=f"one channel, not the shape {labels.shape}"
        )
    if labels.shape != (height, width):
        raise UserError(
            "ANNOTATIONS",
            str(path),
            expected=f"the size of its image, {width}x{height}, not {labels.shape}",
        )
    return labels


def masks_to_coco(
    images: str | Path, annotations: str | Path, things: dict[int, str], min_area: int = 20
) -> dict:
    """Return a COCO document of a folder of images and one of label maps.

    Args:
        images: folder of images, sub-folders included; file names are relative to it.
        annotations: folder of PNGs, one channel, with the images' names.
        things: label -> class name; the COCO categories are numbered from 1 in this order.
        min_area: smaller components, in pixels, are left out.

    Raises:
        UserError: a folder or label map is missing, or of another size than its image.
    """
    images, annotations = Path(images), Path(annotations)
    paths = sorted(p for p in images.rglob("*") if p.suffix.lower() in IMAGE_SUFFIXES)
    if not paths:
        raise UserError("IMAGES", str(images), expected="a folder with images")
    entries, found = [], []
    for path in paths:
        name = path.relative_to(images)
        labels = _read_labels((annotations / name).with_suffix(".png"), path)
        entries.append((name.as_posix(), *labels.shape))
        present = set(np.unique(labels).tolist())
        found.append(
            [
                coco_format.instance(category, mask)
                for category, label in enumerate(things, 1)
                if label in present
                for mask in components(labels, label, min_area)
            ]
        )
    return coco_format.document(entries, found, dict(enumerate(things.values(), 1)))
