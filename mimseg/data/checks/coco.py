"""Checks a COCO annotation file against its images and the config's classes."""

from __future__ import annotations

import json
import logging
import mmap
import os
import re
from collections import defaultdict
from dataclasses import dataclass

from mmengine.logging import print_log

from mimseg.data.checks.folder import IMAGE_SUFFIXES, check_folder, empty_files, require_path
from mimseg.errors import UserError

WHOLE = 32 << 20  # bytes: larger files are scanned for what is needed instead of parsed
LISTED = 8 << 20  # bytes that the categories of such a file lie within
FILE_NAME = re.compile(rb'"file_name"\s*:\s*("(?:[^"\\]|\\.)*")')
CATEGORIES = re.compile(rb'"categories"\s*:\s*')


@dataclass(frozen=True)
class CocoContent:
    """What a COCO file lists.

    Args:
        files: names of the images' files.
        categories: their names, in the file's order.
        absent: those images that are not in their folder.
        empty: images that are files of 0 bytes; of many, some are looked at.
    """

    files: list[str]
    categories: list[str]
    absent: list[str]
    empty: list[str]


def _read(key: str, path: str) -> tuple[list[str], list[str]]:
    """Return the file names of the images and the names of the categories."""
    expected, fix = "a COCO file: JSON with images, annotations and categories", "replace the file"
    if not os.path.getsize(path):
        raise UserError(key, path, expected=f"{expected}; the file is empty", fix=fix)
    try:
        if os.path.getsize(path) > WHOLE:
            return _scan(path)
        with open(path, encoding="utf-8") as file:
            content = json.load(file)
    except ValueError as error:
        raise UserError(key, path, expected=f"{expected} ({error})", fix=fix) from error
    lacking = {"images", "annotations", "categories"}
    lacking -= set(content) if isinstance(content, dict) else set()
    if lacking:
        raise UserError(
            key, path, expected=f"{expected}; it lacks {', '.join(sorted(lacking))}", fix=fix
        )
    try:
        files = [image["file_name"] for image in content["images"]]
        numbers = {image["id"] for image in content["images"]}
        labels = {category["id"] for category in content["categories"]}
        names = [category["name"] for category in content["categories"]]
        stray = [a["id"] for a in content["annotations"] if a["image_id"] not in numbers]
        wrong = [a["id"] for a in content["annotations"] if a["category_id"] not in labels]
    except (KeyError, TypeError) as error:
        raise UserError(
            key, path, expected=f"{expected}; an entry has no {error}", fix=fix
        ) from error
    for ids, what in ((stray, "image_id"), (wrong, "category_id")):
        if ids:
            problem = f"the {what} of {len(ids)} annotations is not in the file"
            raise UserError(
                key, path, expected=f"{expected}; {problem}, the first of id {ids[0]}", fix=fix
            )
    return files, names


def _scan(path: str) -> tuple[list[str], list[str]]:
    """Do as `_read` does on a file of hundreds of megabytes, without parsing its annotations."""
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        files = [json.loads(match[1]) for match in FILE_NAME.finditer(content)]
        start = CATEGORIES.search(content)
        if not start:
            raise ValueError("no categories found")
        listed = content[start.end() : start.end() + LISTED].decode(errors="ignore")
        categories, _ = json.JSONDecoder().raw_decode(listed)
        names = [category["name"] for category in categories]
    return files, names


def _absent(folder: str, files: list[str]) -> list[str]:
    """Return those of the files that are not in the folder; each sub-folder is listed once."""
    by_parent: dict[str, list[str]] = defaultdict(list)
    for name in files:
        by_parent[os.path.dirname(name)].append(name)
    absent = []
    for parent, names in by_parent.items():
        path = os.path.join(folder, parent)
        present = set(os.listdir(path)) if os.path.isdir(path) else set()
        absent += [name for name in names if os.path.basename(name) not in present]
    return absent


def read_coco(key: str, path: str, folder_key: str, folder: str) -> CocoContent:
    """Look at a COCO file and its images' folder; a large file is not parsed whole.

    Args:
        key: names the file in messages.
        path: the file.
        folder_key: names the folder in messages.
        folder: where the images lie.

    Raises:
        UserError: either is missing or unusable.
    """
    require_path(key, path, kind="file")
    check_folder(folder_key, folder, IMAGE_SUFFIXES)
    files, names = _read(key, path)
    if not files:
        raise UserError(key, path, expected="at least one image", fix="replace the file")
    absent = _absent(folder, files)
    return CocoContent(files, names, absent, [] if absent else empty_files(folder, files))


def check_coco(data) -> None:
    """Check a COCO data set: the file parses, its images exist, its categories are the classes.

    An image that is an empty file ends a test, which has to be of all images; training continues
    without it (`mimseg.LoadImageFromFile`), so there it is a warning.

    Args:
        data: the data set's `DatasetConfig`.
    """
    key, path = f"{data.key}.ann_file", data.ann_file
    folder_key, folder = data.prefix("img", "img_path")
    content = read_coco(key, path, folder_key, folder)
    if content.absent:
        raise UserError(
            key,
            path,
            expected=f"images that are in {folder}; {len(content.absent)} of {len(content.files)} "
            "are not "
            f"there, the first {content.absent[0]!r}",
            fix=f"correct {folder_key}, or add the images",
        )
    _check_classes(f"{data.key}.metainfo.classes", path, list(data.classes), content.categories)
    if content.empty:
        message = f"{len(content.empty)} images are empty files, the first {content.empty[0]!r}"
        if data.get("test_mode"):
            fix = "restore them, or delete them and their entries"
            raise UserError(folder_key, folder, expected=f"images that open; {message}", fix=fix)
        print_log(f"{folder_key} = {folder!r}: {message}", "current", logging.WARNING)


def _check_classes(key: str, path: str, classes: list[str], names: list[str]) -> None:
    if not classes:
        return
    lost = [name for name in names if name not in classes]
    if lost:
        raise UserError(
            key,
            _short(classes),
            expected=f"every category of {path}; {len(lost)} are missing, the first {lost[0]!r}",
            fix=f"set it to {_short(names)}",
        )
    # mmdet numbers the categories in the file's order and names them in that of the classes.
    if list(classes) != [name for name in names if name in classes]:
        raise UserError(
            key,
            _short(classes),
            expected=f"the categories of {path}, in the order of that file",
            fix=f"set it to {_short(names)}",
        )


def _short(names: list[str]) -> str:
    shown = ", ".join(names[:12])
    return f"({shown}, ... {len(names)} names)" if len(names) > 12 else f"({shown})"
