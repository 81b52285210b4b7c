"""Tells from label maps alone whether their classes are numbered from 0 or from 1."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

IGNORED = 255
# Of these names, if the classes have them, one side lies above the other in upright photographs.
ABOVE, BELOW = ("sky", "ceiling"), ("floor", "road")
VOTES = 5  # maps with something of both sides that it takes to judge
MOST = 0.8  # share of them that has to agree
PART = 0.005  # share of a map's pixels that counts as something
SIDE = 300  # pixels: larger maps are thinned out to find what lies where


class LabelSurvey:
    """The labels seen in some maps of a data set, and what they say about their numbering.

    Nothing in an 8-bit map says what 0 means, and a config that takes it wrongly trains: each class
    stands for its neighbour, and the first, or "other", is lost. Two things give it away.
    "Other" is 255 where maps were made by taking 1 from 8-bit labels (0 - 1 = 255). And sky or
    ceiling lies above floor or road under one numbering and below it under the other.

    Args:
        classes: the names that the files' labels stand for, in their order.
        reduce: whether 0 is taken for "other" and classes begin at 1 (mmseg's reduce_zero_label).
        released: whether that is how the data set is released, so that no 255 belongs in it.
    """

    def __init__(self, classes: Sequence[str], reduce: bool, released: bool = False) -> None:
        self.classes = [name.strip() for name in classes]
        self.reduce, self.released = reduce, released
        self.read = 0
        self.seen: set[int] = set()
        self._votes = {0: [0, 0], 1: [0, 0]}  # first class's number -> maps [upright, asked]

    @property
    def first(self) -> int:
        """The first class's label, as the config takes it."""
        return int(self.reduce)

    @property
    def last(self) -> int:
        """The last class's label, as the config takes it."""
        return len(self.classes) - 1 + self.first

    def add(self, labels: np.ndarray) -> set[int]:
        """Take in a map, (H, W) integers; return its labels."""
        if labels.dtype == np.uint8:
            found = set(np.flatnonzero(np.bincount(labels.ravel(), minlength=256)).tolist())
        else:
            found = set(np.unique(labels).tolist())
        self.seen |= found
        self.read += 1
        thin = labels[:: -(-labels.shape[0] // SIDE), :: -(-labels.shape[1] // SIDE)]
        for first, votes in self._votes.items():
            above = self._height(thin, ABOVE, first, found)
            below = self._height(thin, BELOW, first, found)
            if above is not None and below is not None:
                votes[0] += above < below
                votes[1] += 1
        return found

    def _height(
        self, labels: np.ndarray, names: Sequence[str], first: int, found: set[int]
    ) -> float | None:
        """Return the mean row of the named classes, or None where there is too little of them."""
        numbers = {self.classes.index(name) + first for name in names if name in self.classes}
        numbers &= found
        if not numbers:
            return None
        rows = np.isin(labels, list(numbers)).sum(1)
        if rows.sum() < PART * labels.size:
            return None
        return float((rows * np.arange(len(rows))).sum() / rows.sum())

    @property
    def looks_subtracted(self) -> bool:
        """Whether 255 stands for "other" in the maps read, though the config says that 0 does.

        Data of one's own may ignore both 0 and 255: there it also takes the last but one class's
        label to be present, while the last's is not.
        """
        if not self.reduce or IGNORED not in self.seen or self.last in self.seen:
            return False
        return self.released or {0, self.last - 1} <= self.seen

    def misnumbered(self) -> str:
        """Return what shows that the classes begin at the other of 0 and 1, or ""."""
        if self.looks_subtracted:
            highest = max(self.seen - {IGNORED}, default=0)
            return (
                f"{self.read} maps hold labels to {highest} and 255, never {self.last}, as after "
                f"'label - 1' ({self.classes[0]!r} would be ignored, all else moved by one)"
            )
        upright, asked = self._votes[self.first]
        upright_else, asked_else = self._votes[1 - self.first]
        enough = min(asked, asked_else) >= VOTES
        if enough and upright <= (1 - MOST) * asked and upright_else >= MOST * asked_else:
            above, below = (
                "/".join(name for name in names if name in self.classes) for names in (ABOVE, BELOW)
            )
            return (
                f"by the config's numbers {above} lies below {below} in {asked - upright} of "
                f"{asked} maps, by the other in {asked_else - upright_else} of {asked_else}"
            )
        return ""
