"""Estimates how far a pipeline is and how long it still takes."""

from __future__ import annotations

from pathlib import Path
from statistics import fmean
from typing import Any

from mimseg.pipeline.places import Places
from mimseg.pipeline.scalars import last_entry, scalar_files
from mimseg.pipeline.step import Step, load_config

FIRST_GUESS = 60.0  # seconds of a kind without an estimate
ENOUGH = 0.15  # of a step; before, its start-up counts for too much


def duration(seconds: float) -> str:
    """'40 seconds', '5 minutes' or '3.5 hours': a time as people say it."""
    if seconds < 90:
        return f"{max(1, round(seconds / 10)) * 10} seconds"
    if seconds < 90 * 60:
        return f"{round(seconds / 60)} minutes"
    return f"{seconds / 3600:.1f} hours"


def budget(step: Step, places: Places) -> dict[str, dict[str, float]]:
    """What a training step will run: stage name -> {'iter' or 'epoch': total}; {} if unknown."""
    if step.config is None:
        return {}
    config = load_config(places.config(step.config))
    common = {**dict(config.get("train_cfg") or {}), **_loop_options(step.options)}
    totals = {}
    for number, stage in enumerate(config.get("stages") or [{}]):
        loop = {**common, **_loop_options(stage.get("options", {}))}
        total = {"iter": loop.get("max_iters"), "epoch": loop.get("max_epochs")}
        name = stage.get("name", f"stage{number}") if config.get("stages") else ""
        totals[name] = {unit: value for unit, value in total.items() if value}
    return totals if all(totals.values()) else {}


def _loop_options(options: dict[str, Any]) -> dict[str, Any]:
    prefix = "train_cfg."
    return {k.removeprefix(prefix): v for k, v in options.items() if k.startswith(prefix)}


def fraction(folder: Path, totals: dict[str, dict[str, float]]) -> float | None:
    """The share of a running training that is done, in [0, 1]; None where it is not known."""
    if not totals:
        return None
    done, files = 0.0, scalar_files(folder)
    for stage, total in totals.items():
        if stage and (folder / stage / "done.json").exists():
            done += 1
            continue
        position = last_entry(files.get(stage, []))
        shares = [position[unit] / total[unit] for unit in total if unit in position]
        done += min(1.0, max(shares, default=0.0))
    return done / len(totals)


def last_loss(folder: Path) -> float | None:
    """The loss that a running training logged last; None before its first line."""
    for files in reversed(scalar_files(folder).values()):
        if "loss" in (entry := last_entry(files)):
            return entry["loss"]
    return None


class Estimator:
    """Estimates the seconds of a step: the mean of its kind so far, or a guess.

    A guess is corrected by the pace of this machine: the seconds that the kinds with a measured
    time took, over their guesses.

    Args:
        guesses: seconds by kind.
    """

    def __init__(self, guesses: dict[str, float] | None = None) -> None:
        self.guesses = guesses or {}
        self.seen: dict[str, list[float]] = {}
        self.projected: dict[str, float] = {}

    def add(self, kind: str, seconds: float) -> None:
        """Note the seconds of a finished step."""
        self.seen.setdefault(kind, []).append(seconds)

    def project(self, kind: str, elapsed: float, share: float | None) -> None:
        """Note how far a running step is."""
        if share is not None and share > ENOUGH:
            self.projected[kind] = elapsed / share

    @property
    def pace(self) -> float:
        """Seconds on this machine for one second of the guesses."""
        measured = self.projected | {kind: fmean(times) for kind, times in self.seen.items()}
        kinds = [kind for kind in measured if kind in self.guesses]
        expected = sum(self.guesses[kind] for kind in kinds)
        return sum(measured[kind] for kind in kinds) / expected if expected else 1.0

    def seconds(self, kind: str) -> float:
        """Seconds of a step of this kind; a test counts as a quarter of its training."""
        if times := self.seen.get(kind):
            return fmean(times)
        if kind not in self.guesses and kind.endswith("-test"):
            return self.seconds(kind.removesuffix("-test")) / 4
        return self.guesses.get(kind, FIRST_GUESS) * self.pace

    def left(self, kind: str, elapsed: float, share: float | None) -> float:
        """Seconds that a running step still needs."""
        if share is not None and kind in self.seen:
            return (1 - share) * self.seconds(kind)
        if share is not None and share > ENOUGH:
            return elapsed * (1 - share) / share
        return max(self.seconds(kind) - elapsed, 0.05 * elapsed)


def tails(steps: list[Step], seconds: dict[str, float]) -> dict[str, float]:
    """For each step the seconds of the longest chain that starts with it."""
    following: dict[str, list[str]] = {step.name: [] for step in steps}
    for step in steps:
        for name in [*step.needs, *step.after]:
            following[name].append(step.name)
    lengths: dict[str, float] = {}
    for step in reversed(steps):  # a plan lists what comes first first
        longest = max((lengths[name] for name in following[step.name]), default=0.0)
        lengths[step.name] = seconds[step.name] + longest
    return lengths
