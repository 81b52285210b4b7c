"""Checks of paths and of image folders."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence

from mimseg.errors import UserError

LOOKED_AT = 5000  # files whose size is asked for, spread over the set


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
    raise UserError(key, path, expected=f"an existing {kind}", fix=fix)


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
        raise UserError(
            key, folder, expected=f"a folder with images ({told})", fix="it is empty; fill it"
        )


def spread(items: Sequence, most: int) -> Sequence:
    """Return at most so many of the items, spread evenly."""
    return items[:: max(1, -(-len(items) // most))]


def empty_files(folder: str, names: Sequence[str]) -> list[str]:
    """Return which files hold nothing, dead links too; of many files, some are looked at."""
    looked_at = spread(names, LOOKED_AT)
    return [name for name in looked_at if not _size(os.path.join(folder, name))]


def _size(path: str) -> int:
    try:
        return os.path.getsize(path)
    except OSError:
        return 0
