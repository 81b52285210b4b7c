"""Estimates how far a pipeline is and how long it still takes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mimseg.pipeline.scalars import last_position, scalar_files
from mimseg.pipeline.step import Step, load_config
from mimseg.progress import clock as clock

FIRST_GUESS = 60.0  # seconds of a kind that nobody knows anything about


def budget(step: Step, root: Path) -> dict[str, dict[str, float]]:
    """What a training step will run: stage name -> {'iter' or 'epoch': total}; {} if unknown."""
    if step.config is None:
        return {}
    config = load_config(str(root / step.config))
    common = {**dict(config.get("train_cfg") or {}), **_loop_options(step.options)}
    found = {}
    for number, stage in enumerate(config.get("stages") or [{}]):
        loop = {**common, **_loop_options(stage.get("options", {}))}
        total = {"iter": loop.get("max_iters"), "epoch": loop.get("max_epochs")}
        name = stage.get("name", f"stage{number}") if config.get("stages") else ""
        found[name] = {unit: value for unit, value in total.items() if value}
    return found if all(found.values()) else {}


def _loop_options(options: dict[str, Any]) -> dict[str, Any]:
    prefix = "train_cfg."
    return {k.removeprefix(prefix): v for k, v in options.items() if k.startswith(prefix)}


def fraction(folder: Path, totals: dict[str, dict[str, float]]) -> float | None:
    """The share of a running training that is done, in [0, 1]; None where it cannot be told."""
    if not totals:
        return None
    done, files = 0.0, scalar_files(folder)
    for stage, total in totals.items():
        if stage and (folder / stage / "done.json").exists():
            done += 1
            continue
        position = last_position(files.get(stage, []))
        shares = [position[unit] / total[unit] for unit in total if unit in position]
        done += min(1.0, max(shares, default=0.0))
    return done / len(totals)


class Estimator:
    """Seconds a step takes: the mean of its kind so far, or the first guess of the config.

    Args:
        guesses: seconds by kind.
    """

    def __init__(self, guesses: dict[str, float] | None = None) -> None:
        self.guesses = guesses or {}
        self.seen: dict[str, list[float]] = {}

    def add(self, kind: str, seconds: float) -> None:
        """Note the seconds of a finished step."""
        self.seen.setdefault(kind, []).append(seconds)

    def seconds(self, kind: str) -> float:
        """Seconds of a step of this kind; a test counts as a quarter of its training."""
        if seen := self.seen.get(kind):
            return sum(seen) / len(seen)
        if kind not in self.guesses and kind.endswith("-test"):
            return self.seconds(kind.removesuffix("-test")) / 4
        return self.guesses.get(kind, FIRST_GUESS)

    def left(self, kind: str, elapsed: float, share: float | None) -> float:
        """Seconds that a running step still needs."""
        if share is not None and kind in self.seen:
            return (1 - share) * self.seconds(kind)
        if share is not None and share > 0.1:  # before, starting up counts for too much
            return elapsed * (1 - share) / share
        return max(self.seconds(kind) - elapsed, 0.05 * elapsed)


def tails(steps: list[Step], seconds: dict[str, float]) -> dict[str, float]:
    """For each step the seconds of the longest chain that starts with it."""
    following: dict[str, list[str]] = {step.name: [] for step in steps}
    for step in steps:
        for name in [*step.needs, *step.after]:
            following[name].append(step.name)
    found: dict[str, float] = {}
    for step in reversed(steps):  # a plan lists what comes first first
        after = max((found[name] for name in following[step.name]), default=0.0)
        found[step.name] = seconds[step.name] + after
    return found
