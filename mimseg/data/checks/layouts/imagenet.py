"""Checks ImageNet-1k: train/CLASS/*.JPEG and val/CLASS/*.JPEG, or val/*.JPEG with meta/val.txt."""

from __future__ import annotations

import os
import re

from mimseg.data.checks.folder import FolderScan
from mimseg.data.checks.report import Part, Report, scan_part

CLASSES = 1000
IMAGES = {"train": 1_281_167, "val": 50_000}
ARCHIVES = {
    "train": "ILSVRC2012_img_train.tar (each .tar in it into a folder of its name)",
    "val": "ILSVRC2012_img_val.tar (sorted into class folders as in train)",
}
WNID = re.compile(r"n\d{8}")
HOME = "data/imagenet"


def fits(root: str) -> bool:
    """Whether train/ or val/ has folders that are named as ImageNet's classes."""
    return any(
        WNID.fullmatch(name)
        for split in IMAGES
        if os.path.isdir(os.path.join(root, split))
        for name in os.listdir(os.path.join(root, split))
    )


def report(root: str) -> Report:
    """Check both splits, and that they have the same classes."""
    result = Report("ImageNet-1k", root, [])
    classes = []
    for split, what in (("train", "training"), ("val", "validation")):
        images = Part(f"{what} images", split, expected=IMAGES[split])
        labels = Part(f"{what} classes", f"{split}/*", expected=CLASSES, labels=True)
        result.parts += [images, labels]
        scan = scan_part(images, root, ARCHIVES[split])
        if scan is None:
            labels.state = images.state
            continue
        if packed := scan.others[".tar"]:
            message = f"{split}: unpack each of {packed:,} .tar files into a folder of its name"
            images.fail("packed", message)
        listed = os.path.join("meta", f"{split}.txt")
        if not scan.by_folder[""]:
            classes.append(_check_folders(labels, scan, split))
        elif os.path.isfile(os.path.join(root, listed)):
            _check_list(labels, scan, root, listed)
            loaders = (split,) if split == "train" else ("val", "test")
            result.options += [f"{one}_dataloader.dataset.ann_file={listed}" for one in loaders]
        else:
            message = (
                f"{split}: {scan.by_folder['']:,} images lie in no class folder; move each into "
            )
            message += (
                f"the folder of its class, or list them in {listed} (a line each: NAME LABEL)"
            )
            labels.fail("no labels", message)
    different = sorted(set(classes[0]) ^ set(classes[1])) if len(classes) == 2 else ()
    if different:
        message = f"{len(different)} class folders are in one of train and val only, such as "
        message += f"{different[0]}; a label is the folder's place by name, so both need the same"
        result.parts[-1].fail("other classes", f"val: {message}")
    result.offer(HOME)
    return result


def _check_folders(labels: Part, scan: FolderScan, split: str) -> list[str]:
    """Return the names of the classes' folders, after noting what is wrong with them."""
    classes = {name: count for name, count in scan.by_folder.items() if name}
    labels.count = len(classes)
    labels.judge_count(ARCHIVES[split])
    bare = sorted(name for name, count in classes.items() if not count)
    if bare:
        message = f"{len(bare)} class folders have no images, such as {bare[0]}"
        labels.fail("incomplete", f"{split}: {message}; unpack {ARCHIVES[split]} again")
    return list(classes)


def _check_list(labels: Part, scan: FolderScan, root: str, listed: str) -> None:
    """Note what is wrong with a list of images and labels."""
    with open(os.path.join(root, listed), encoding="utf-8") as lines:
        rows = [line.strip().rsplit(" ", 1) for line in lines]
    odd = [row for row in rows if len(row) != 2 or not row[1].isdigit() or int(row[1]) >= CLASSES]
    if odd or not rows:
        message = f"{len(odd)} of {len(rows):,} lines are not NAME LABEL, one space between, "
        message += f"with labels to {CLASSES - 1}"
        labels.fail("wrong", f"{listed}: {message}")
        return
    labels.count = len({label for _, label in rows})
    absent = [name for name, _ in rows if not os.path.isfile(os.path.join(scan.folder, name))]
    if absent:
        message = (
            f"{len(absent):,} of {len(rows):,} images listed are not there, such as {absent[0]}"
        )
        labels.fail("incomplete", f"{listed}: {message}")
