"""Checks generated scenes: unlabeled images, ADE20K's layout and COCO's in one folder."""

from __future__ import annotations

import json
import os
from pathlib import Path

from mimseg.data.checks.layouts.ade20k import pair_parts
from mimseg.data.checks.layouts.coco import instance_parts
from mimseg.data.checks.report import Part, Report, scan_part
from mimseg.data.scenes.parts import CLASSES
from mimseg.data.scenes.write import MARKER, SPLITS
from mimseg.errors import UserError

SOURCE = "mimseg scenes"
HOME = "data/scenes"


class Scenes:
    """Replaces an mmseg data set of the scenes' classes."""

    METAINFO = {"classes": CLASSES}


def fits(root: str) -> bool:
    """Whether the file is there that the writer leaves last."""
    return os.path.isfile(os.path.join(root, MARKER))


def report(root: str) -> Report:
    """Check what the writer says that it wrote.

    Raises:
        UserError: it left no such word.
    """
    marker = Path(root) / MARKER
    try:
        counts = json.loads(marker.read_text(encoding="utf-8"))["counts"]
    except (OSError, ValueError, KeyError) as error:
        raise UserError(
            "ROOT", root, expected=f"a folder with {MARKER}", fix=f"{SOURCE} makes one"
        ) from error
    parts: list[Part] = []
    for split, (_, images, name) in SPLITS.items():
        count = counts.get(split)
        if not count:
            continue
        if name is None:
            parts.append(Part(f"{split} images", images, expected=count))
            scan_part(parts[-1], root, SOURCE)
            continue
        folder = os.path.basename(images)
        pair = pair_parts(root, Scenes, folder, SOURCE, count, reduce_zero_label=True)
        path = f"annotations/instances_{name}.json"
        # the images' part of both is the same
        parts += pair + instance_parts(root, folder, path, images, SOURCE, SOURCE, count)[0][:1]
    result = Report("generated scenes", root, parts)
    result.offer(HOME)
    return result
