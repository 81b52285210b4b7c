"""Where in a checkpoint of a whole model its backbone lies."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable


def is_teacher(name: str) -> bool:
    """`teacher.x`, `teachers.0.x` or `module.teacher_backbone.x`."""
    return any(part.startswith("teacher") for part in name.split("."))


def find_prefix(names: Iterable[str], own: Iterable[str]) -> str | None:
    """The prefix under which most of a module's `own` names appear, or None."""
    own = set(own)
    hits: Counter[str] = Counter()
    with_stem: set[str] = set()
    for name in names:
        start = 0
        while True:
            if name[start:] in own:
                hits[name[:start]] += 1
                if name.startswith("patch_embed.", start):
                    with_stem.add(name[:start])
            start = name.find(".", start) + 1
            if start == 0:
                break

    def rank(prefix: str) -> tuple:
        # the stem first: a decoder has blocks of the same names, but no patch embedding
        named = (prefix == "backbone.") + 0.5 * prefix.endswith("backbone.")
        return prefix in with_stem, hits[prefix], named, -len(prefix), prefix

    return max(hits, key=rank, default=None)
