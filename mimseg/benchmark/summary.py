"""Computes means and spreads over seeds, and compares two of them."""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass


@dataclass(frozen=True)
class Summary:
    """Mean and sample standard deviation (n - 1) over seeds; the deviation is None for one."""

    mean: float
    spread: float | None
    n: int

    @classmethod
    def of(cls, values: list[float]) -> Summary:
        """Of at least one value."""
        spread = statistics.stdev(values) if len(values) > 1 else None
        return cls(statistics.fmean(values), spread, len(values))

    def text(self, digits: int = 1) -> str:
        """'41.2 ± 0.8', or '41.2' for one value."""
        mean = f"{self.mean:.{digits}f}"
        return mean if self.spread is None else f"{mean} ± {self.spread:.{digits}f}"


@dataclass(frozen=True)
class Comparison:
    """A difference of two means against the larger of their two spreads.

    `verdict` is 'higher', 'lower', 'inside the spread', or 'one seed'.
    """

    difference: float
    spread: float | None
    verdict: str

    @classmethod
    def of(cls, base: Summary, other: Summary) -> Comparison:
        """Of `other` minus `base`."""
        difference = other.mean - base.mean
        if base.spread is None or other.spread is None:
            return cls(difference, None, "one seed")
        spread = max(base.spread, other.spread)
        if abs(difference) < spread or math.isclose(difference, 0.0, abs_tol=1e-9):
            return cls(difference, spread, "inside the spread")
        return cls(difference, spread, "higher" if difference > 0 else "lower")


def verdict_text(verdict: str) -> str:
    """A comparison's verdict for people."""
    if verdict == "one seed":
        return "one seed: no spread"
    return verdict if verdict == "inside the spread" else "outside the spread"


def label(name: str) -> str:
    """A task's name for people."""
    return {"semseg": "Segmentation", "detection": "Detection"}.get(name, name.capitalize())


def metric_name(metric: str) -> str:
    """mask_AP -> mask AP."""
    return metric.replace("_", " ")
