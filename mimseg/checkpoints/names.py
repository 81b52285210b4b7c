"""Searches the names of tensors: for a network's prefix in a file, for its blocks."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable

_DENSE_HEADS = ("rpn_head", "roi_head", "bbox_head", "mask_head", "decode_head", "auxiliary_head")
_LAYER = re.compile(r"layers\.(\d+)\.")


def is_teacher(name: str) -> bool:
    """`teacher.x`, `teachers.0.x` or `module.teacher_backbone.x`."""
    return any(part.startswith("teacher") for part in name.split("."))


def dense_heads(names: Iterable[str]) -> list[str]:
    """The modules in a file that mmdet's and mmseg's models call their heads."""
    modules = {name.removeprefix("module.").partition(".")[0] for name in names}
    return [head for head in _DENSE_HEADS if head in modules]


def prefix_hits(names: Iterable[str], model_names: Iterable[str]) -> Counter[str]:
    """For each prefix that ends at a dot, how many of a model's names the file has behind it."""
    model_names = set(model_names)
    hits: Counter[str] = Counter()
    for name in names:
        start = 0
        while True:
            if name[start:] in model_names:
                hits[name[:start]] += 1
            start = name.find(".", start) + 1
            if start == 0:
                break
    return hits


def find_prefix(names: Iterable[str], model_names: Iterable[str]) -> str | None:
    """The prefix behind which a file has most of a model's names, or None."""
    names, model_names = set(names), set(model_names)
    hits = prefix_hits(names, model_names)
    stem = [name for name in model_names if name.startswith("patch_embed.")]

    def rank(prefix: str) -> tuple:
        # the stem first: a decoder has blocks of the same names, but no patch embedding
        named = (prefix == "backbone.") + 0.5 * prefix.endswith("backbone.")
        with_stem = any(prefix + name in names for name in stem)
        return with_stem, hits[prefix], named, -len(prefix), prefix

    return max(hits, key=rank, default=None)


def layer_indices(names: Iterable[str]) -> set[int]:
    """The indices of the blocks that the names belong to."""
    return {int(match.group(1)) for match in map(_LAYER.match, names) if match}


def shorten(names: Iterable[str], limit: int = 6) -> str:
    """The first few names, and how many more there are."""
    names = list(names)
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more
