"""What a loader found: matched, resized, missing and unexpected names, by group."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

_COLUMNS = ("matched", "resized", "missing", "unexpected")
_ORDER = ("patch_embed", "pos_embed", "tokens", "layers", "norm", "other")
_LAYER = re.compile(r"layers\.(\d+)\.")


@dataclass(frozen=True)
class LoadReport:
    """The outcome of loading a backbone, as names relative to the backbone.

    Args:
        source: the file.
        prefix: what the backbone's names begin with in the file.
        matched: names that were loaded, the resized ones included.
        resized: names whose tensor was resized to fit.
        missing: names of the backbone that the file lacks; they keep their initial values.
        unexpected: names of the file that the backbone lacks; they were left out.
        outside: how many tensors of the file belong to other modules (heads, necks, teachers).
        family: what the file was recognised as, where its names are not ours.
        heads: the detector's or segmentor's heads in the file, which say that it was fine-tuned.
        pretrained: what the file's backbone was built as, where the module differs from it.
    """

    source: str
    prefix: str
    matched: tuple[str, ...]
    resized: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    unexpected: tuple[str, ...] = ()
    outside: int = 0
    family: str = ""
    heads: tuple[str, ...] = ()
    pretrained: str = ""

    def counts(self) -> dict[str, dict[str, int]]:
        """{group: {"matched": n, "resized": n, "missing": n, "unexpected": n}}."""
        table: dict[str, dict[str, int]] = {}
        for column in _COLUMNS:
            for name in getattr(self, column):
                row = table.setdefault(group_of(name), dict.fromkeys(_COLUMNS, 0))
                row[column] += 1
        return {group: table[group] for group in _ORDER if group in table}

    def __str__(self) -> str:
        depth = 1 + max(layer_indices(self.matched), default=-1)
        head = f"backbone loaded from {self.source} (prefix {self.prefix!r})"
        head += f"\n  recognised as {self.family}" if self.family else ""
        lines = [head, "  " + "".join(f"{c:>12}" for c in ("", *_COLUMNS))]
        for group, row in self.counts().items():
            label = f"layers ({depth})" if group == "layers" else group
            lines.append(f"  {label:<12}" + "".join(f"{row[c]:>12}" for c in _COLUMNS))
        for column in _COLUMNS[1:]:
            if getattr(self, column):
                lines.append(f"  {column}: {shorten(getattr(self, column))}")
        if self.outside:
            lines.append(f"  tensors of other modules, left out: {self.outside}")
        if self.heads:
            lines.append(
                f"  this is a fine-tuned model: its {', '.join(self.heads)} are left out. To go on "
                f"with the whole of it, set load_from={self.source} in its place; to start from "
                "pretraining alone, give the pretraining's checkpoint"
            )
        if self.pretrained:
            lines.append(f"  it was pretrained as {self.pretrained}")
        return "\n".join(lines)


def group_of(name: str) -> str:
    """The report's row for a name: patch_embed, pos_embed, tokens, layers, norm or other."""
    head = name.partition(".")[0]
    if head in ("patch_embed", "pos_embed", "layers"):
        return head
    if head.endswith("_token") or head.endswith("_tokens"):
        return "tokens"
    return "norm" if re.fullmatch(r"(pre_)?(ln|norm)\d*", head) else "other"


def layer_indices(names: Iterable[str]) -> set[int]:
    """Which blocks the names speak of."""
    return {int(match.group(1)) for match in map(_LAYER.match, names) if match}


def shorten(names: Iterable[str], limit: int = 6) -> str:
    """The first few names, and how many more there are."""
    names = list(names)
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more
