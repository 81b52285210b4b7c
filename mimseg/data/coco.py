"""COCO's JSON from masks: instances as compressed RLE, which keeps holes, and the document."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from faster_coco_eval.core import mask as rle

from mimseg.files import write_text


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
    for image_id, found in enumerate(instances, 1):
        for annotation in found:
            number = len(result["annotations"]) + 1
            result["annotations"].append({"id": number, "image_id": image_id, **annotation})
    return result


def write(path: Path, content: dict) -> None:
    """Write a document, atomically."""
    write_text(path, json.dumps(content, separators=(",", ":")))
