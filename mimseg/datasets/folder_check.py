"""Checks of image folders, and of mmseg's pairs of image and label map folders."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence

import numpy as np
from PIL import Image

from mimseg.errors import UserError

MAPS_READ = 50  # label maps opened, spread over the set
SHOWN = 5


def require_path(key: str, path: str, kind: str = "folder") -> None:
    """Raise a UserError where the folder or file is missing, with the part of it that exists."""
    if os.path.isdir(path) if kind == "folder" else os.path.isfile(path):
        return
    there = os.path.abspath(path)
    while there and not os.path.exists(there):
        there = os.path.dirname(there)
    fix = f"correct the path, or make the data; {there} exists"
    if kind == "folder" and os.path.exists(path):
        fix = "give the folder that the file lies in"
    raise UserError(key, path, f"an existing {kind}", fix)


def walk_files(folder: str, suffixes: str | Sequence[str]) -> Iterator[str]:
    """Yield the files' names relative to the folder, sub-folders included, hidden ones not."""
    suffixes = (suffixes,) if isinstance(suffixes, str) else tuple(suffixes)
    for parent, folders, names in os.walk(folder, followlinks=True):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in names:
            if not name.startswith(".") and (not suffixes or name.lower().endswith(suffixes)):
                yield os.path.relpath(os.path.join(parent, name), folder)


def check_folder(key: str, folder: str, suffixes: str | Sequence[str]) -> None:
    """Raise a UserError unless the folder holds a file with one of the suffixes."""
    require_path(key, folder)
    if next(walk_files(folder, suffixes), None) is None:
        told = suffixes if isinstance(suffixes, str) else ", ".join(suffixes)
        raise UserError(key, folder, f"a folder with images ({told})", "it is empty; fill it")


def _names(data) -> list[str]:
    """Return the images' names without suffix, from the list file or else from the folder."""
    key, folder = data.prefix("img_path")
    suffix = data.get("img_suffix", ".jpg")
    require_path(key, folder)
    if data.ann_file and not os.path.isdir(data.ann_file):
        require_path(f"{data.key}.ann_file", data.ann_file, kind="file")
        with open(data.ann_file) as lines:
            names = [line.strip() for line in lines if line.strip()]
        missing = [n for n in names if not os.path.isfile(os.path.join(folder, n + suffix))]
        if missing:
            raise UserError(
                f"{data.key}.ann_file",
                data.ann_file,
                f"names of images in {folder}; {len(missing)} of {len(names)} are not there, "
                f"the first {missing[0] + suffix!r}",
                f"correct the list, {key} or img_suffix",
            )
    else:
        names = [name[: -len(suffix)] for name in walk_files(folder, suffix)]
    if not names:
        raise UserError(key, folder, f"a folder with {suffix} images", "fill it, or set img_suffix")
    return sorted(names)


def check_label_maps(data) -> None:
    """Check an mmseg data set: every image has its map, and sampled maps only known labels.

    Args:
        data: the data set's `DatasetConfig`.
    """
    names = _names(data)
    key, folder = data.prefix("seg_map_path")
    require_path(key, folder)
    suffix = data.get("seg_map_suffix", ".png")
    there = set(walk_files(folder, suffix))
    missing = [name + suffix for name in names if name + suffix not in there]
    if missing:
        raise UserError(
            key,
            folder,
            f"a label map for each of {len(names)} images; {len(missing)} have none, "
            f"the first {missing[0]!r}",
            "add the maps, remove those images, or set seg_map_suffix",
        )
    known = data.classes
    if not known:
        return
    # With classes of one's own chosen from the class's, mmseg maps the files' labels to them.
    own = data.own_classes
    count = len(own) if own and set(known) <= set(own) else len(known)
    step = max(1, -(-len(names) // MAPS_READ))
    for name in names[::step]:
        _check_map(data, os.path.join(folder, name + suffix), count)


def _check_map(data, path: str, count: int) -> None:
    try:
        with Image.open(path) as opened:
            labels = np.array(opened)
    except (OSError, SyntaxError, ValueError) as error:
        raise UserError(
            f"{data.key}.data_prefix.seg_map_path", path, f"a label map that opens ({error})"
        ) from error
    if labels.ndim != 2:
        raise UserError(
            f"{data.key}.data_prefix.seg_map_path",
            path,
            f"one channel of labels, not the shape {labels.shape}",
            "write the maps as 8-bit greyscale or palette PNGs of class numbers",
        )
    reduce = bool(data.get("reduce_zero_label", False))
    ignored = {int(data.get("ignore_index", 255)), 255}
    highest = count if reduce else count - 1
    wrong = [v for v in np.unique(labels).tolist() if v > highest and v not in ignored]
    if wrong:
        told = ", ".join(str(v) for v in wrong[:SHOWN])
        meaning = "0 is ignored, classes from 1" if reduce else "classes from 0"
        raise UserError(
            f"{data.key}.metainfo.classes",
            f"{count} classes",
            f"labels 0 to {highest} or 255 in the maps ({meaning}); {path} has {told}",
            "name all classes, correct the maps, or set reduce_zero_label rightly",
        )
