"""Prints how far a job is and how long it still takes."""

from __future__ import annotations

import time
from typing import TextIO


def clock(seconds: float) -> str:
    """02:13, or 1:02:13 from an hour on."""
    total = max(0, round(seconds))
    minutes, seconds = divmod(total, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes:02}:{seconds:02}"


def progress_line(text: str, left: float | None, number: int = 1, total: int = 1) -> str:
    """ "[2/5] text, 01:20 left": number and total only of several, the time only where known."""
    position = f"[{number}/{total}] " if total > 1 else ""
    return f"{position}{text}" + ("" if left is None else f", {clock(left)} left")


class Progress:
    """Prints a line every few seconds: "[2/5] dino: 120/400 images, 01:20 left".

    The time left is that of all parts, at the rate so far.

    Args:
        total: units of a part.
        unit: what is counted, in the plural: "images".
        label: the name of the first part.
        parts: how many parts of `total` units there are; with one, lines do not number it.
        every: seconds between lines. The last unit of a part always gets one.
        out: where lines go; None for the standard output.
    """

    def __init__(
        self,
        total: float,
        unit: str,
        label: str = "",
        *,
        parts: int = 1,
        every: float = 2.0,
        out: TextIO | None = None,
    ) -> None:
        self.total, self.unit, self.label = total, unit, label
        self.part, self.parts, self.every, self.out = 0, parts, every, out
        self.done = 0
        self.begin = self.printed = time.monotonic()
        self._skipped = 0.0

    def start(self, part: int, label: str) -> None:
        """Begin a part, counted from 0."""
        self.part, self.label, self.done = part, label, 0

    def skip(self, seconds: float) -> None:
        """Leave seconds out of the rate, such as those of starting up."""
        self._skipped += seconds

    def update(self, done: float) -> None:
        """Note that `done` units of the part are finished, and print a line where one is due."""
        self.done = done
        now = time.monotonic()
        if now - self.printed >= self.every or done >= self.total:
            self.printed = now
            print(self.line(), file=self.out, flush=True)

    def left(self) -> float | None:
        """Seconds until all parts are finished; None before the first unit."""
        share = (self.part + self.done / self.total) / self.parts
        spent = time.monotonic() - self.begin - self._skipped
        return spent * (1 - share) / share if share else None

    def line(self) -> str:
        """The line for what is done so far."""
        label = f"{self.label}: " if self.label else ""
        text = f"{label}{self.done}/{self.total} {self.unit}"
        return progress_line(text, self.left(), self.part + 1, self.parts)
