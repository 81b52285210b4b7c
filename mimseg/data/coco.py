"""Writes COCO's JSON of masks, and turns label maps into such masks.

Instances are compressed RLE, which keeps holes.
"""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
from faster_coco_eval.core import mask as rle
from PIL import Image

from mimseg.data.loading import sizes
from mimseg.errors import UserError
from mimseg.files import write_text

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp")


def instance(category_id: int, mask: np.ndarray) -> dict:
    """Return the annotation of one object, without its ids.

    Args:
        category_id: COCO's number of the class.
        mask: (H, W) bool, not empty. The box is the tight one of its pixels.
    """
    code = rle.encode(np.asfortranarray(mask, np.uint8))
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    box = (columns[0], rows[0], columns[-1] - columns[0] + 1, rows[-1] - rows[0] + 1)
    counts = code["counts"]
    return {
        "category_id": category_id,
        "bbox": [int(v) for v in box],
        "area": int(np.count_nonzero(mask)),
        "iscrowd": 0,
        "segmentation": {
            "size": [int(v) for v in mask.shape],
            "counts": counts.decode("ascii") if isinstance(counts, bytes) else counts,
        },
    }


def document(
    images: list[tuple[str, int, int]], instances: list[list[dict]], categories: dict[int, str]
) -> dict:
    """Return a COCO document; ids of images and annotations count from 1.

    Args:
        images: (file name, height, width) of each image.
        instances: for each image the annotations that `instance` gave.
        categories: COCO's number -> name.
    """
    result: dict = {
        "images": [
            {"id": number, "file_name": name, "height": height, "width": width}
            for number, (name, height, width) in enumerate(images, 1)
        ],
        "annotations": [],
        "categories": [{"id": number, "name": name} for number, name in categories.items()],
    }
    for image_id, objects in enumerate(instances, 1):
        for annotation in objects:
            number = len(result["annotations"]) + 1
            result["annotations"].append({"id": number, "image_id": image_id, **annotation})
    return result


def write(path: Path, content: dict) -> None:
    """Write a document, atomically."""
    write_text(path, json.dumps(content, separators=(",", ":")))


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
        labels = np.array(Image.open(path))  # the indices of a palette image, not its colors
        stored, (width, height), _ = sizes(image)
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
            fix="turn the map as well: the photo is turned upright when it is read, by its EXIF "
            "orientation"
            if labels.shape == stored[::-1]
            else "",
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
    entries, annotated = [], []
    for path in paths:
        name = path.relative_to(images)
        labels = _read_labels((annotations / name).with_suffix(".png"), path)
        entries.append((name.as_posix(), *labels.shape))
        present = set(np.unique(labels).tolist())
        annotated.append(
            [
                instance(category, mask)
                for category, label in enumerate(things, 1)
                if label in present
                for mask in components(labels, label, min_area)
            ]
        )
    return document(entries, annotated, dict(enumerate(things.values(), 1)))
