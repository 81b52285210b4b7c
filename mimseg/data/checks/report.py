"""Reports what a data set holds: its parts, what was looked into, and what it can train."""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, field

from mimseg.data.checks.folder import FolderScan
from mimseg.recipes.readers import DataConfig, find_configs

# what mmpretrain's CustomDataset reads
SUFFIXES = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif")
SHOWN = 5  # configs listed, one of each folder; of more folders the names alone
GOOD = ("ok", "subset")


@dataclass
class Part:
    """A folder or file of a data set.

    Args:
        name: what it is.
        path: relative to the data set's root.
        count: number of images or maps in it.
        expected: how many there should be; None where that is not known.
        labels: whether only training on labels needs it.
        state: "ok", "subset" (usable, far fewer than official), or what is the matter in a word.
        problems: sentences that say what is the matter and what to do.
        looked_into: what was opened, in words.
    """

    name: str
    path: str
    count: int = 0
    expected: int | None = None
    labels: bool = False
    state: str = "ok"
    problems: list[str] = field(default_factory=list)
    looked_into: str = ""

    def fail(self, state: str, problem: str) -> None:
        """Note a problem; the first one gives the state."""
        self.state = self.state if self.problems else state
        self.problems.append(problem)

    def judge_count(self, source: str) -> None:
        """Compare the number found with the official release's.

        Less than half is taken for a choice of one's own, more for an unpacking that was cut short.
        """
        if self.expected is None or self.count >= self.expected or not self.count:
            return
        if 2 * self.count < self.expected:
            self.state = self.state if self.problems else "subset"
        else:
            lost = self.expected - self.count
            self.fail("incomplete", f"{self.path}: {lost:,} are missing; unpack {source} again")

    @property
    def good(self) -> bool:
        return self.state in GOOD


def scan_part(
    part: Part, root: str, source: str, suffixes: Sequence[str] = SUFFIXES
) -> FolderScan | None:
    """Count the images of a part and look into some; problems are noted in the part.

    Args:
        part: to fill.
        root: the data set's.
        source: the archive, or another way to it, for messages.
        suffixes: of the images, in lower case.

    Returns:
        The scan, or None where there is nothing.
    """
    folder = os.path.join(root, part.path)
    if not os.path.isdir(folder):
        part.fail("missing", f"{part.path}: make the folder {folder} from {source}")
        return None
    scan = FolderScan(folder, suffixes)
    part.count = scan.count
    if not scan.count:
        others = ", ".join(f"{n:,} {suffix or 'bare'}" for suffix, n in scan.others.most_common(3))
        content = f"{others} files only" if others else "nothing in it"
        message = f"no images ({', '.join(suffixes)}) in {folder}, {content}; fill it from {source}"
        part.fail("empty", f"{part.path}: {message}")
        return None
    part.looked_into = f"{scan.looked_at:,} files' sizes, {len(scan.sizes)} images opened"
    if scan.typical_side:
        part.looked_into += f" (shorter side: median {scan.typical_side} px)"
    if scan.empty:
        count = f"{len(scan.empty):,} of {scan.looked_at:,} files looked at are empty (0 bytes)"
        part.fail(
            "damaged", f"{part.path}: {count}, such as {scan.empty[0]}; restore from {source}"
        )
    for name, reason in list(scan.broken.items())[:1]:
        count = f"{len(scan.broken)} of {len(scan.broken) + len(scan.sizes)} images do not open"
        part.fail("damaged", f"{part.path}: {count}, such as {name} ({reason}); restore them")
    part.judge_count(source)
    return scan


@dataclass
class Report:
    """A data set's parts and the configs that read it.

    Args:
        title: the data set.
        root: its folder.
        parts: what it consists of.
        notes: sentences on it as a whole.
        options: config options that the labels take.
    """

    title: str
    root: str
    parts: list[Part]
    notes: list[str] = field(default_factory=list)
    options: list[str] = field(default_factory=list)
    _groups: list[tuple[str, list[DataConfig], str, list[Part]]] = field(default_factory=list)

    def offer(self, home: str) -> None:
        """Name the configs whose data lies in `home`, or in a folder of it, by default."""
        by_sub: dict[str, list[DataConfig]] = {}
        for config in find_configs():
            if config.data_root == home or config.data_root.startswith(home + "/"):
                by_sub.setdefault(config.data_root[len(home) + 1 :], []).append(config)
        for sub, configs in sorted(by_sub.items()):
            labeled = any(config.labeled for config in configs)
            below = [part for part in self.parts if f"{part.path}/".startswith(sub)]
            needed = [part for part in below if labeled or not part.labels]
            aim = "training on labels" if labeled else "pretraining"
            self.offer_group(aim if len(by_sub) > 1 else "", configs, sub, needed)

    def offer_group(
        self, aim: str, configs: list[DataConfig], sub: str, needed: Sequence[Part]
    ) -> None:
        """Name configs that read the folder `sub` of the root.

        Args:
            aim: what they are for, where there are several groups.
            configs: all of them.
            sub: their data_root, relative to the root.
            needed: the parts that they cannot do without.
        """
        self._groups.append((aim, configs, sub, list(needed)))

    @property
    def complete(self) -> bool:
        """Whether no part is missing or damaged."""
        return all(part.good for part in self.parts)

    def __str__(self) -> str:
        lines = [f"{self.title} in {self.root}", "", *self._table()]
        looked = [f"{part.name}: {part.looked_into}" for part in self.parts if part.looked_into]
        lines += ["", "looked into", *(f"  {line}" for line in looked)] if looked else []
        todo = [problem for part in self.parts for problem in part.problems]
        lines += ["", "to do", *(f"  {line}" for line in todo)] if todo else []
        lines += ["", *self.notes] if self.notes else []
        return "\n".join([*lines, *self._offers()])

    def _table(self) -> list[str]:
        rows = [("part", "path", "found", "expected", "state")]
        for part in self.parts:
            expected = f"{part.expected:,}" if part.expected else "-"
            rows.append((part.name, part.path, f"{part.count:,}", expected, part.state))
        wide = [max(len(row[column]) for row in rows) for column in range(4)]
        return [
            f"  {a:<{wide[0]}}  {b:<{wide[1]}}  {c:>{wide[2]}}  {d:>{wide[3]}}  {e}"
            for a, b, c, d, e in rows
        ]

    def _offers(self) -> list[str]:
        lines = []
        for aim, configs, sub, needed in self._groups:
            for_what = f" for {aim}" if aim else ""
            lacking = [part.path for part in needed if not part.good]
            if lacking:
                lines += ["", f"not ready{for_what}: {', '.join(lacking)}"]
                continue
            root = os.path.join(self.root, sub) if sub else self.root
            lines += ["", f"ready{for_what}: train with", *_listed(configs)]
            labeled = any(config.labeled for config in configs)
            options = [f"data_root={shlex.quote(root)}", *(self.options if labeled else ())]
            lines += [f"  and --cfg-options {' '.join(options)}"]
        return lines


def _listed(configs: Sequence[DataConfig]) -> list[str]:
    """Return a line for each folder of configs: one of a ViT-B if there is, and the number."""
    by_folder: dict[str, list[str]] = {}
    for config in configs:
        by_folder.setdefault(os.path.dirname(config.path), []).append(config.path)
    shown = list(by_folder)[: SHOWN if len(by_folder) <= SHOWN else SHOWN - 2]
    lines = []
    for folder in shown:
        paths = sorted(by_folder.pop(folder), key=lambda path: ("vit-base" not in path, len(path)))
        more = f" (and {len(paths) - 1} more in its folder)" if len(paths) > 1 else ""
        lines.append(f"  {paths[0]}{more}")
    if by_folder:
        names = ", ".join(os.path.basename(folder) for folder in by_folder)
        lines.append(f"  or of configs/: {names}")
    return lines
