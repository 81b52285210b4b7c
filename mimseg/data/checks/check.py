"""Reports what a data set holds, what is missing, and which configs read it."""

from __future__ import annotations

import os
from collections.abc import Iterator

from mimseg.data.checks.folder import require_path
from mimseg.data.checks.layouts import ade20k as ade20k_layout
from mimseg.data.checks.layouts import coco as coco_layout
from mimseg.data.checks.layouts import folder as folder_layout
from mimseg.data.checks.layouts import imagenet as imagenet_layout
from mimseg.data.checks.layouts import scenes as scenes_layout
from mimseg.data.checks.report import Report

# in the order in which they are recognized; the last, ANY, fits everything
KINDS = {
    "scenes": scenes_layout,
    "ade20k": ade20k_layout,
    "coco": coco_layout,
    "imagenet": imagenet_layout,
    "folder": folder_layout,
}
ANY = "folder"
SEARCHED = 200  # folders looked into for a data set that lies elsewhere


def check_data(root: str, kind: str | None = None) -> Report:
    """Check a data set on disk; nothing is changed.

    Args:
        root: its folder.
        kind: one of KINDS; None recognizes it.

    Raises:
        UserError: there is no such folder, or it cannot be read.
    """
    require_path("ROOT", root)
    root = os.path.normpath(root)
    looks = next(name for name, layout in KINDS.items() if layout.fits(root))
    report = KINDS[kind or looks].report(root)
    if looks == ANY:  # another kind's data may lie near by
        wanted = [name for name in KINDS if name != ANY] if kind is None else [kind]
        near = ((path, name) for path in _near(root) for name in wanted)
        for path, name in near if kind != ANY else ():
            if KINDS[name].fits(path):
                report.notes.append(f"{path} looks like {name}: give that folder as ROOT")
                break
    elif kind not in (None, looks):
        report.notes.append(f"{root} looks like {looks}: try --kind {looks}")
    return report


def _near(root: str) -> Iterator[str]:
    """Yield the folder above, then those below to a depth of three, a limited number."""
    yield os.path.dirname(os.path.abspath(root))
    level, left = [root], SEARCHED
    for _ in range(3):
        below = []
        for folder in level:
            try:
                with os.scandir(folder) as entries:
                    below += sorted(e.path for e in entries if e.is_dir())[:left]
            except OSError:
                continue
        yield from below[:left]
        left -= len(below)
        if left <= 0:
            return
        level = below
