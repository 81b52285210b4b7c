"""Checks COCO 2017: annotations/instances_{train,val}2017.json, train2017/ and val2017/."""

from __future__ import annotations

import os

from mimseg.data.checks.coco import read_coco
from mimseg.data.checks.folder import IMAGE_SUFFIXES
from mimseg.data.checks.report import Part, Report, scan_part
from mimseg.errors import UserError

COUNTS = {"train": 118_287, "val": 5_000}
LABELS = "annotations_trainval2017.zip"
CATEGORIES = (80, "person", "toothbrush")  # how many, the first, the last
HOME = "data/coco"


def fits(root: str) -> bool:
    """Whether one of the annotation files or image folders is there."""
    paths = [os.path.join("annotations", f"instances_{s}2017.json") for s in COUNTS]
    paths += [f"{split}2017" for split in COUNTS]
    return any(os.path.exists(os.path.join(root, path)) for path in paths)


def report(root: str) -> Report:
    """Check both splits' annotation files and images, and that the categories are COCO's."""
    result = Report("COCO 2017", root, [])
    for split, count in COUNTS.items():
        path, folder = f"annotations/instances_{split}2017.json", f"{split}2017"
        sources = (LABELS, f"{folder}.zip")
        parts, names = instance_parts(root, split, path, folder, *sources, count)
        result.parts += parts
        if names and (len(names), names[0], names[-1]) != CATEGORIES:
            message = f"{len(names)} categories ({', '.join(names[:5])}, ...) are not COCO's 80"
            fix = "copy configs/scenes/mask-rcnn..., set metainfo.classes and num_classes to them"
            parts[0].fail("other classes", f"{path}: {message}; {fix}")
    result.offer(HOME)
    return result


def instance_parts(
    root: str,
    split: str,
    path: str,
    folder: str,
    labels_source: str,
    images_source: str,
    official: int | None,
) -> tuple[list[Part], list[str]]:
    """Check an annotation file and the images that it lists.

    Args:
        root: the data set's.
        split: name of the split.
        path: the file, relative to the root.
        folder: the images' folder, relative to the root.
        labels_source: where the file comes from, for messages.
        images_source: where the images come from.
        official: number of images in the release; None without one.

    Returns:
        the file's part and the images', and the names of the categories.
    """
    labels = Part(f"{split} annotations", path, expected=official)
    images = Part(f"{split} images", folder)
    scan = scan_part(images, root, images_source, IMAGE_SUFFIXES)
    file = os.path.join(root, path)
    if not os.path.isfile(file):
        labels.fail("missing", f"{path}: make {file} from {labels_source}")
    if not scan or labels.problems:
        return [labels, images], []
    try:
        coco = read_coco(path, file, folder, scan.folder)
    except UserError as error:
        labels.fail("wrong", f"{path}: expected {error.expected}. {error.fix}")
        return [labels, images], []
    labels.count = images.expected = len(coco.files)
    labels.looked_into = f"{len(coco.categories)} categories, {len(coco.files):,} images listed"
    if official and labels.count < official:  # a file is whole or does not parse
        labels.state = "subset"
    if coco.absent:
        message = f"{len(coco.absent):,} of {len(coco.files):,} images listed are not there"
        fix = f"such as {coco.absent[0]}; unpack {images_source}"
        images.fail("incomplete", f"{folder}: {message}, {fix}")
    if coco.empty and not images.problems:
        message = f"{len(coco.empty):,} images are empty files, such as {coco.empty[0]}"
        images.fail("damaged", f"{folder}: {message}; restore them from {images_source}")
    return [labels, images], coco.categories
