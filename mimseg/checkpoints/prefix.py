"""Where in a checkpoint of a whole model its backbone lies."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable


def is_teacher(name: str) -> bool:
    """`teacher.x`, `teachers.0.x` or `module.teacher_backbone.x`."""
    return any(part.startswith("teacher") for part in name.split("."))


_DENSE_HEADS = ("rpn_head", "roi_head", "bbox_head", "mask_head", "decode_head", "auxiliary_head")


def dense_heads(names: Iterable[str]) -> list[str]:
    """What a file has of the modules that mmdet's and mmseg's models call their heads."""
    modules = {name.removeprefix("module.").partition(".")[0] for name in names}
    return [head for head in _DENSE_HEADS if head in modules]


def prefix_hits(names: Iterable[str], own: Iterable[str]) -> Counter[str]:
    """How many of a module's `own` names stand under each prefix that ends at a dot."""
    own = set(own)
    hits: Counter[str] = Counter()
    for name in names:
        start = 0
        while True:
            if name[start:] in own:
                hits[name[:start]] += 1
            start = name.find(".", start) + 1
            if start == 0:
                break
    return hits


def find_prefix(names: Iterable[str], own: Iterable[str]) -> str | None:
    """The prefix under which most of a module's `own` names appear, or None."""
    names, own = set(names), set(own)
    hits = prefix_hits(names, own)
    stem = [name for name in own if name.startswith("patch_embed.")]

    def rank(prefix: str) -> tuple:
        # the stem first: a decoder has blocks of the same names, but no patch embedding
        named = (prefix == "backbone.") + 0.5 * prefix.endswith("backbone.")
        with_stem = any(prefix + name in names for name in stem)
        return with_stem, hits[prefix], named, -len(prefix), prefix

    return max(hits, key=rank, default=None)
