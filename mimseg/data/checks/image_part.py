"""The part of a data set that every kind has: a folder of images."""

from __future__ import annotations

import os
from collections.abc import Sequence

from mimseg.data.checks.folder_scan import FolderScan
from mimseg.data.checks.report import Part

# what mmpretrain's CustomDataset reads
SUFFIXES = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif")


def scan_part(part: Part, root: str, source: str, suffixes: Sequence[str] = SUFFIXES):
    """Count the images of a part and look into some; problems are noted in the part.

    Args:
        part: to fill.
        root: the data set's.
        source: the archive, or another way to it, for messages.
        suffixes: of the images, in lower case.

    Returns:
        the `FolderScan`, or None where there is nothing.
    """
    folder = os.path.join(root, part.path)
    if not os.path.isdir(folder):
        part.fail("missing", f"{part.path}: make the folder {folder} from {source}")
        return None
    scan = FolderScan(folder, suffixes)
    part.found = scan.count
    if not scan.count:
        others = ", ".join(f"{n:,} {suffix or 'bare'}" for suffix, n in scan.others.most_common(3))
        there = f"{others} files only" if others else "nothing in it"
        told = f"no images ({', '.join(suffixes)}) in {folder}, {there}; fill it from {source}"
        part.fail("empty", f"{part.path}: {told}")
        return None
    part.looked_into = f"{scan.looked_at:,} files' sizes, {len(scan.sizes)} images opened"
    if scan.typical_side:
        part.looked_into += f" (shorter side: median {scan.typical_side} px)"
    if scan.empty:
        told = f"{len(scan.empty):,} of {scan.looked_at:,} files looked at are empty (0 bytes)"
        part.fail("damaged", f"{part.path}: {told}, such as {scan.empty[0]}; restore from {source}")
    for name, reason in list(scan.broken.items())[:1]:
        told = f"{len(scan.broken)} of {len(scan.broken) + len(scan.sizes)} images do not open"
        part.fail("damaged", f"{part.path}: {told}, such as {name} ({reason}); restore them")
    part.judge_count(source)
    return scan
