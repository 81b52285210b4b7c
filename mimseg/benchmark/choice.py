"""The point of a written grid that did best on the validation split."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from mimseg.errors import UserError
from mimseg.files import read_json, write_json


def read_metric(path: Path, key: str) -> float:
    """One metric of a `done.json` or `test.json`, as the library gave it; 0 where it gave none.

    Raises:
        UserError: the file or the metric is missing, or the metric is COCO's -1 (no annotation).
    """
    content = read_json(path)
    metrics = content.get("metrics") if isinstance(content, dict) else None
    if not isinstance(metrics, dict):
        raise UserError("metrics", str(path), expected="a JSON file with metrics")
    if not metrics:  # mmdet's COCO metrics stay silent where nothing was detected
        return 0.0
    if not isinstance(metrics.get(key), (int, float)):
        known = ", ".join(sorted(metrics)) or "none"
        raise UserError(
            "metrics", key, expected=f"one of those in {path}: {known}", fix="correct the config"
        )
    value = float(metrics[key])
    if value < 0:
        raise UserError(
            key, value, expected=f"a score in {path}; -1 means that no annotation was there"
        )
    return value


def choose(runs: list[tuple[dict[str, Any], Path]], key: str, output: Path) -> int:
    """Index of the run with the best `key` in its `done.json`; the first of equals.

    A run that diverged (NaN) is never better than another. All values are written to `output`.

    Args:
        runs: (grid point, work dir) of each run, in the grid's order.
        key: the metric's name in the library, higher is better.
        output: `choice.json`.
    """
    values = [read_metric(folder / "done.json", key) for _, folder in runs]
    best = max(range(len(values)), key=lambda i: (_finite(values[i]), -i))
    grid = [
        {"point": point, "run": folder.name, "value": value if math.isfinite(value) else None}
        for (point, folder), value in zip(runs, values, strict=True)
    ]
    content = {"metric": key, "split": "val", "chosen": best, "grid": grid}
    if read_json(output) != content:
        write_json(output, content)
    return best


def _finite(value: float) -> float:
    return value if math.isfinite(value) else -math.inf


def point_name(point: dict[str, Any]) -> str:
    """A grid point for a folder's name: lr1e-3-layer_decay0.75."""
    return "-".join(f"{key}{short(value)}" for key, value in point.items())


def short(value: Any) -> str:
    """1e-3, 0.75, 1: a number as people write it."""
    if not isinstance(value, float):
        return str(value)
    plain = f"{value:g}"
    if 0 < abs(value) < 0.01 or abs(value) >= 1e5:
        mantissa, exponent = f"{value:e}".split("e")
        return f"{float(mantissa):g}e{int(exponent)}"
    return plain
