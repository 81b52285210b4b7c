"""Checks any folder of images, for pretraining."""

from __future__ import annotations

from mimseg.data.checks.report import Part, Report, scan_part
from mimseg.recipes.readers import find_configs


def fits(root: str) -> bool:
    """Whatever is no other kind is a folder of images."""
    return True


def report(root: str) -> Report:
    """Check that there are images, and that they open."""
    part = Part("images", ".")
    result = Report("a folder of images", root, [part])
    scan = scan_part(part, root, "a good copy")
    if scan and scan.others:
        kinds = ", ".join(f"{n:,} {suffix or 'bare'}" for suffix, n in scan.others.most_common(5))
        result.notes.append(f"files that are not read: {kinds}")
    if scan:
        folders = len(scan.by_folder) - 1
        part.looked_into += f", {folders:,} sub-folders" if folders else ""
    by_size: dict[int, list] = {}
    for config in find_configs():
        if not config.labeled and config.size:
            by_size.setdefault(config.size, []).append(config)
    # the group first whose views are nearest to the images' size
    side = scan.typical_side if scan else 0
    for size in sorted(by_size, key=lambda size: abs(size - side)):
        result.offer_group(f"pretraining at {size} px", by_size[size], "", [part])
    return result
