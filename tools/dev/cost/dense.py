"""Measures our backbone beside the stock one, step by step in turn."""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from dev.cost.cell import OURS, Cell
from dev.cost.memory import PeakMemory
from dev.cost.worker import BenchFailure, Worker
from mimseg.progress import Progress, clock

# largest difference over largest value. A training loss of Mask R-CNN may hang on one proposal.
TOLERANCE = {"maps": 1e-4, "head": 1e-4, "gradients": 1e-3, "loss": 1e-2}
# In bfloat16 rounding is of the size of some gradients. So the two are compared in float32 first,
# and then ours must be about as near to float32 as the stock model is.
_WORSE = 1.5
_COMPARISON = 4  # about as long as so many steps of both sides
Row = dict[str, Any]


class Clock:
    """Prints on stderr how long all cells still take.

    Args:
        cells: all that will be measured.
        rounds: steps of each side, warm-up included.
    """

    def __init__(self, cells: list[Cell], rounds: int) -> None:
        work = sum(cell.work for cell in cells) * (rounds + _COMPARISON)
        self.progress = Progress(work, "work")
        self.cells, self.setups, self.last = len(cells), [], time.monotonic()

    def ready(self) -> None:
        """Note that a cell's processes have built their models."""
        self.setups.append(time.monotonic() - self.last)
        self.progress.skip(self.setups[-1])

    def print(self, cell: Cell, rounds: float, text: str) -> None:
        """Note that a cell has run so many more steps of each side, and print `text`."""
        self.progress.done += cell.work * rounds
        self.last = time.monotonic()
        left = self.progress.left() or 0.0
        left += (self.cells - len(self.setups)) * statistics.fmean(self.setups)
        print(f"  {text}; about {clock(left)} left", file=sys.stderr, flush=True)


def measure(cell: Cell, steps: int, warmup: int, progress: Clock) -> list[Row]:
    """Compare the two sides' outputs, then time them: one step of ours, one of theirs, and so on.

    Args:
        cell: what is measured.
        steps: timed steps of each side.
        warmup: untimed steps before them.

    Returns:
        Two rows, ours first: the cell's settings, `model`, `seconds` of each step, `peak_mib`,
        `differences` and what they are to.

    Raises:
        BenchFailure: the outputs differ by more than is allowed, or a process broke.
    """
    with (
        tempfile.TemporaryDirectory(prefix="mimseg-bench-") as folder,
        Worker(cell, ours=True) as ours,
        Worker(cell, ours=False) as stock,
    ):
        sides = (ours, stock)
        weights, outputs = Path(folder) / "weights.pth", Path(folder) / "outputs.pth"
        ours.ask("draw", weights)
        stock.ask("load", weights)
        progress.ready()
        if exact := cell.dtype != "float32":
            stock.ask("save_outputs", outputs, exact)
            found = ours.ask("differences", outputs, exact)
            refuse(replace(cell, dtype="float32"), found, found)
            differences = [side.ask("differences", outputs) for side in sides]
        else:
            ours.ask("save_outputs", outputs)
            differences = [stock.ask("differences", outputs)] * 2
        progress.print(cell, _COMPARISON, "outputs compared")
        refuse(cell, *differences)
        outputs.unlink()
        for side in sides:
            side.ask("begin")
        seconds: dict[str, list[float]] = {side.name: [] for side in sides}
        for number in range(warmup + steps):
            found = [side.ask("step", number)["seconds"] for side in sides]
            if number >= warmup:
                for side, value in zip(sides, found, strict=True):
                    seconds[side.name].append(round(value, 5))
            kind = "warm-up" if number < warmup else "timed"
            text = f"step {number + 1} of {warmup + steps} ({kind}): ours {found[0]:.2f} s, "
            progress.print(cell, 1, f"{text}stock {found[1]:.2f} s")
        peaks = {side.name: side.ask("peak") for side in sides}
    return [
        {
            **asdict(cell),
            "model": side.name,
            "side": "ours" if side.name == OURS else "stock",
            "warmup": warmup,
            "seconds": seconds[side.name],
            "peak_mib": None if peaks[side.name] is None else round(peaks[side.name], 1),
            "peak_is": PeakMemory.HOW[cell.device],
            "differences": {kind: float(f"{value:.3g}") for kind, value in found.items()},
            "differences_to": "the stock model in float32" if exact else "the other model",
        }
        for side, found in zip(sides, differences, strict=True)
    ]


def limits(cell: Cell, stock: dict[str, float]) -> dict[str, float]:
    """How large ours may be of each kind of difference."""
    if cell.dtype == "float32":
        return TOLERANCE
    return {kind: _WORSE * stock[kind] + TOLERANCE[kind] for kind in TOLERANCE}


def difference_text(cell: Cell, ours: dict[str, float], stock: dict[str, float]) -> str:
    """The differences with what is allowed, for people."""
    most = limits(cell, stock)
    parts = [f"{kind} {value:.1e} (at most {most[kind]:.0e})" for kind, value in ours.items()]
    to = "" if cell.dtype == "float32" else f" to {cell.stock} in float32"
    return f"same weights; largest difference{to} over largest value: {', '.join(parts)}"


def refuse(cell: Cell, ours: dict[str, float], stock: dict[str, float]) -> None:
    """Raise where a difference is beyond what is allowed, or no number."""
    most = limits(cell, stock)
    if all(value <= most[kind] for kind, value in ours.items()):
        return
    raise BenchFailure(
        f"{cell.title}: not timed, for {OURS} and {cell.stock} do not compute the same; "
        + difference_text(cell, ours, stock)
    )


def comparison(ours: Row, stock: Row) -> str:
    """Our time and memory over the stock's: the median of the pairs of steps, and their range."""
    ratios = [a / b for a, b in zip(ours["seconds"], stock["seconds"], strict=True)]
    low, high = min(ratios), max(ratios)
    text = f"time x{statistics.median(ratios):.2f} ({low:.2f} to {high:.2f})"
    if ours["peak_mib"] and stock["peak_mib"]:
        text += f", memory x{ours['peak_mib'] / stock['peak_mib']:.2f}"
    return text
