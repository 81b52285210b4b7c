"""What was measured as JSON files, and the table of them."""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import Any

from dev.cost.cell import TASKS
from dev.cost.dense import comparison
from mimseg.files import update_json
from mimseg.pipeline.provenance import short_commit

KIND = "cost"
KEYS = ("benchmark", "task", "arch", "model", "side", "seconds", "peak_mib", "command", "commit")
Row = dict[str, Any]


def write_record(folder: Path, name: str, row: Row) -> Path:
    """Write one row as a file of its own."""
    record = {"kind": KIND, "benchmark": "dense_cost", **row}
    return update_json(folder / f"{name}_{row['side']}.json", record)


def cost_table(records: list[Row]) -> str:
    """The records as a Markdown table, ours and the stock row of a cell one after the other."""
    lines = [
        "| task | backbone | model | step, s: median (range) | images/s | peak memory | "
        "against stock | differences | commit | machine |",
        "|" + "---|" * 10,
    ]
    cells: dict[tuple, dict[str, Row]] = {}
    for row in records:
        cells.setdefault(_cell(row), {})[row["side"]] = row
    for cell in sorted(cells, key=lambda c: (c[0] != "upernet", c[0], -len(c[1]), *c[1:])):
        sides = cells[cell]
        for side in ("ours", "stock"):
            if side in sides:
                both = len(sides) == 2 and side == "ours"
                against = comparison(sides["ours"], sides["stock"]) if both else ""
                lines.append(_line(sides[side], against))
    return "\n".join(lines)


def _cell(row: Row) -> tuple:
    keys = ("task", "arch", "size", "batch", "device", "dtype", "threads", "checkpointing")
    return tuple(row[key] for key in keys)


def _line(row: Row, against: str) -> str:
    machine = row.get("machine") or {}
    on_cpu = row["device"] == "cpu"
    where = machine.get("cpu", "CPU") if on_cpu else machine.get("gpu", "GPU")
    name = row["model"] + (", checkpointing" if row["checkpointing"] else "")
    kinds = [f"{kind} {value:.0e}" for kind, value in row["differences"].items()]
    cells = [
        f"{TASKS[row['task']]}, {row['batch']} x {row['size']} px",
        f"ViT-{row['arch']}/16",
        name,
        *summary(row),
        against,
        ", ".join(kinds),
        short_commit(row["commit"]),
        ", ".join([where, f"{row['threads']} threads"][: 1 + on_cpu] + [row["dtype"]]),
    ]
    return f"| {' | '.join(cells)} |"


def summary(row: Row) -> list[str]:
    """Step time, images a second and peak memory, for people."""
    seconds, peak = row["seconds"], row["peak_mib"]
    median = statistics.median(seconds)
    digits = 2 if median >= 1 else 3
    spread = f"{min(seconds):.{digits}f} to {max(seconds):.{digits}f}"
    return [
        f"{median:.{digits}f} ({spread})",
        f"{row['batch'] / median:.3g}",
        "" if peak is None else f"{peak / 1024:.2f} GiB" if peak >= 1024 else f"{peak:.0f} MiB",
    ]
