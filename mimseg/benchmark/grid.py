"""Writes the points of a grid as config changes, and chooses one on the validation split."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from mimseg.errors import UserError
from mimseg.files import read_json, update_json


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
    update_json(output, {"metric": key, "split": "val", "chosen": best, "grid": grid})
    return best


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
    if key in metrics and metrics[key] is None:
        expected = f"a score in {path}; nothing of any class was there to measure"
        raise UserError(key, None, expected=expected, fix="see that the split has labels")
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


def point_options(task: dict[str, Any], point: dict[str, Any]) -> dict[str, Any]:
    """The config changes of a grid point, by the task's `grid_keys` (one key or several each).

    Raises:
        UserError: the point has a key that `grid_keys` does not map.
    """
    keys = task.get("grid_keys", {})
    options: dict[str, Any] = {}
    for name, value in point.items():
        if name not in keys:
            raise UserError(
                "grid", name, expected=f"one of grid_keys {list(keys)}", fix="add it to grid_keys"
            )
        targets = [keys[name]] if isinstance(keys[name], str) else keys[name]
        options.update({target: value for target in targets})
    return options


def cfg_options(options: dict[str, Any]) -> list[str]:
    """`--cfg-options a.b=c ...`, or nothing where there is nothing to change."""
    return ["--cfg-options", *cfg_values(options)] if options else []


def cfg_values(options: dict[str, Any]) -> list[str]:
    """['a.b=c', ...] as mmengine's DictAction reads them.

    Raises:
        UserError: a value that DictAction would read as something else.
    """
    return [f"{key}={_word(key, value)}" for key, value in options.items()]


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


def _finite(value: float) -> float:
    return value if math.isfinite(value) else -math.inf


def _word(key: str, value: Any) -> str:
    if isinstance(value, dict):
        raise UserError(
            f"options[{key!r}]", value, expected="a plain value", fix="write 'key.inner=value' keys"
        )
    if isinstance(value, (list, tuple)):
        inner = ",".join(_word(key, item) for item in value)
        return f"({inner})" if isinstance(value, tuple) else f"[{inner}]"
    if isinstance(value, str) and any(mark in value for mark in " ,[]()"):
        raise UserError(
            f"options[{key!r}]", value, expected="a text without spaces, commas and brackets"
        )  # mmengine's DictAction drops the first and splits at the others
    return str(value)
