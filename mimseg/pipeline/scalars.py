"""Reads the scalars that mmengine logs during a run."""

from __future__ import annotations

import json
import math
from pathlib import Path

Curve = list[tuple[float, float]]


def scalar_files(run: Path) -> dict[str, list[Path]]:
    """The log files of a run, oldest first, by stage ('' for a run without stages)."""
    files: dict[str, list[Path]] = {}
    for path in sorted(run.glob("**/vis_data/scalars.json"), key=lambda p: p.parts[-3]):
        stage = "/".join(path.relative_to(run).parts[:-3])
        files.setdefault(stage, []).append(path)
    return files


def read_curve(paths: list[Path], key: str) -> Curve:
    """(step, value) of one scalar; what a resumed run logged again replaces the first time."""
    values: dict[float, float] = {}
    for path in paths:
        part: dict[float, float] = {}
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
            try:
                entry = json.loads(line)
            except ValueError:  # the last line of a killed run
                continue
            value = entry.get(key) if isinstance(entry, dict) else None
            if isinstance(value, (int, float)) and math.isfinite(value):
                part[entry.get("step", entry.get("iter", len(part)))] = float(value)
        if part:  # a resume starts before the kill: the steps from there on are this file's
            values = {step: v for step, v in values.items() if step < min(part)} | part
    return sorted(values.items())


def smooth(curve: Curve, points: int = 160) -> Curve:
    """At most `points` points, each the mean of a run of neighbours."""
    size = max(1, math.ceil(len(curve) / points))
    parts = [curve[i : i + size] for i in range(0, len(curve), size)]
    return [(part[-1][0], sum(v for _, v in part) / len(part)) for part in parts]


def last_entry(paths: list[Path]) -> dict[str, float]:
    """'iter', 'epoch' and 'loss' of the last training line, from the newest file that has one."""
    for path in reversed(paths):
        with open(path, "rb") as file:
            size = file.seek(0, 2)
            file.seek(max(0, size - 8000))
            lines = file.read().decode("utf-8", errors="replace").splitlines()
        for line in reversed(lines):
            try:
                entry = json.loads(line)
            except ValueError:
                continue
            if isinstance(entry, dict) and "loss" in entry:
                return {key: entry[key] for key in ("iter", "epoch", "loss") if key in entry}
    return {}
