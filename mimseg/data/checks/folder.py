"""Checks paths and image folders."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

from PIL import Image

from mimseg.errors import UserError

# of the files that mimseg.LoadImageFromFile decodes
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp", ".ppm", ".pgm")
LOOKED_AT = 5000  # files whose size is asked for, spread over the set
KEPT = 2000  # names that a scan keeps, spread over the folder, to look at the files
OPENED = 20  # images that a scan opens


def require_path(key: str, path: str, kind: str = "folder") -> None:
    """Raise a UserError where the folder or file is missing, with the part of it that exists."""
    if os.path.isdir(path) if kind == "folder" else os.path.isfile(path):
        return
    existing = os.path.abspath(path)
    while existing and not os.path.exists(existing):
        existing = os.path.dirname(existing)
    fix = f"correct the path, or make the data; {existing} exists"
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
        kinds = suffixes if isinstance(suffixes, str) else ", ".join(suffixes)
        raise UserError(
            key, folder, expected=f"a folder with images ({kinds})", fix="it is empty; fill it"
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


class FolderScan:
    """Counts a folder's images and looks into some; 1.3 million files take a few seconds.

    Args:
        folder: where to look, sub-folders included; hidden names are left out.
        suffixes: of the images, in lower case.

    Attributes:
        count: number of images.
        by_folder: first-level folder ("" for the folder itself) -> number of images below it.
        others: suffix -> number of files that are no images.
        sizes: (width, height) of the images that were opened.
        empty: those of the names kept that are files of 0 bytes.
        broken: name -> why it did not open.

    Raises:
        UserError: a folder cannot be read.
    """

    def __init__(self, folder: str, suffixes: Sequence[str]) -> None:
        self.folder, self.suffixes = folder, tuple(suffixes)
        self.count = 0
        self.by_folder: dict[str, int] = {}
        self.others: Counter[str] = Counter()
        self._kept: list[str] = []
        self._stride = 1
        self._links: set[tuple[int, int]] = set()
        self._walk()
        self._look()

    def _walk(self) -> None:
        open_folders = [("", "")]
        while open_folders:
            here, top = open_folders.pop()
            self.by_folder.setdefault(top, 0)
            try:
                with os.scandir(os.path.join(self.folder, here)) as entries:
                    open_folders += self._list(entries, here, top)
            except OSError as error:
                path = os.path.join(self.folder, here)
                raise UserError(
                    "folder", path, expected="one that can be read", fix=str(error)
                ) from error

    def _list(self, entries: Iterable[os.DirEntry], here: str, top: str) -> list[tuple[str, str]]:
        """Count a folder's images; return its sub-folders, each with its first-level folder."""
        below = []
        suffixes, before = self.suffixes, self.count
        for entry in entries:
            name = entry.name
            if name[0] == ".":
                continue
            if entry.is_dir():
                if self._is_new(entry):
                    below.append((os.path.join(here, name), top or name))
            elif name.lower().endswith(suffixes):
                if self.count % self._stride == 0:
                    self._keep(os.path.join(here, name))
                self.count += 1
            else:
                self.others[os.path.splitext(name)[1].lower()] += 1
        self.by_folder[top] += self.count - before
        return below

    def _is_new(self, entry: os.DirEntry) -> bool:
        """Whether a folder is not a link to where another link led: links may form a ring."""
        if not entry.is_symlink():
            return True
        status = entry.stat()
        key = (status.st_dev, status.st_ino)
        seen = key in self._links
        self._links.add(key)
        return not seen

    def _keep(self, name: str) -> None:
        """Keep one name in `_stride`, so that at most 2 * KEPT are held."""
        self._kept.append(name)
        if len(self._kept) >= 2 * KEPT:
            self._kept, self._stride = self._kept[::2], 2 * self._stride

    def _look(self) -> None:
        self.looked_at = len(self._kept)
        self.empty = empty_files(self.folder, self._kept)
        self.broken: dict[str, str] = {}
        self.sizes: list[tuple[int, int]] = []
        empty = set(self.empty)
        whole = [name for name in self._kept if name not in empty]
        for name in spread(whole, OPENED):
            try:
                with Image.open(os.path.join(self.folder, name)) as image:
                    image.load()
                    self.sizes.append(image.size)
            except (OSError, SyntaxError, ValueError) as error:
                self.broken[name] = str(error)

    @property
    def typical_side(self) -> int:
        """The median of the opened images' shorter sides in pixels; 0 where none opened."""
        sides = sorted(min(size) for size in self.sizes)
        return sides[len(sides) // 2] if sides else 0
