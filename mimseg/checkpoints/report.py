"""Reports how weights were loaded: matched, resized, missing and unexpected names."""

from __future__ import annotations

import re
from dataclasses import dataclass

from mimseg.checkpoints.match import Match
from mimseg.checkpoints.names import layer_indices, shorten

_COLUMNS = ("matched", "resized", "missing", "unexpected")
_ORDER = ("patch_embed", "pos_embed", "tokens", "layers", "norm", "other")


@dataclass(frozen=True)
class LoadReport:
    """The outcome of loading weights into a network.

    Args:
        subject: what the network is called.
        source: the file.
        match: how the file's tensors fit the network's.
        resized: names whose tensor was resized to fit.
        initial: names whose shape differs; they keep their initial values.
    """

    subject: str
    source: str
    match: Match
    resized: tuple[str, ...] = ()
    initial: tuple[str, ...] = ()

    @property
    def matched(self) -> tuple[str, ...]:
        """Names that were loaded, the resized ones included."""
        return tuple(name for name in self.match.matched if name not in self.initial)

    @property
    def missing(self) -> tuple[str, ...]:
        """Names of the network that the file lacks; they keep their initial values."""
        return self.match.missing

    @property
    def unexpected(self) -> tuple[str, ...]:
        """Names of the file that the network lacks; they were left out."""
        return self.match.unexpected

    @property
    def complete(self) -> bool:
        """Whether file and network have the same tensors."""
        return not (self.initial or self.missing or self.unexpected)

    def __str__(self) -> str:
        count = f"{len(self.matched)} of {len(self.match.matched) + len(self.missing)} tensors"
        lines = [f"{self.subject} loaded from {self.source}: {count}"]
        for title, names in (
            ("resized", self.resized),
            ("other shapes, left as drawn", self.initial),
            ("missing, left as drawn", self.missing),
            ("unexpected, left out", self.unexpected),
        ):
            if names:
                lines.append(f"  {title}: {len(names)}: {shorten(names)}")
        return "\n".join(lines)


@dataclass(frozen=True)
class BackboneReport(LoadReport):
    """The outcome of loading a backbone, as names relative to the backbone.

    Args:
        prefix: what the backbone's names begin with in the file.
        outside: how many tensors of the file belong to other modules (heads, necks, teachers).
        family: what the file was recognised as, where its names are not ours.
        heads: the detector's or segmentor's heads in the file, which say that it was fine-tuned.
        pretrained: what the file's backbone was built as, where the module differs from it.
    """

    prefix: str = ""
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
        head = f"{self.subject} loaded from {self.source} (prefix {self.prefix!r})"
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
                f"  this is a fine-tuned model: its {', '.join(self.heads)} are left out. To "
                f"continue with the whole model, set load_from={self.source} in its place; to "
                "start from pretraining alone, name the pretraining's checkpoint"
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
