"""Reads and writes the record of a method's small run, one JSON file per method."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from dev.methods.run import RESULT
from mimseg.errors import UserError
from mimseg.files import read_json, update_json
from mimseg.pipeline.scalars import read_curve, scalar_files, smooth
from mimseg.pipeline.step import StepState
from mimseg.recipes.methods import Method

POINTS = 50  # of a curve
KEYS = ("method", "config", "stages", "held_out", "seconds", "steps")
Record = dict[str, Any]


def make_record(method: Method, state: StepState) -> Record:
    """What a finished run measured, with the command, commit and machine that it took.

    Args:
        method: the method.
        state: the folder of its run.
    """
    result = read_json(state.folder / RESULT)
    files = scalar_files(state.folder)
    stages = []
    for stage in result["stages"]:
        curve = read_curve(files.get(stage["name"], []), "loss")
        values = [value for _, value in curve]
        last = values[-max(1, len(values) // 10) :]
        stages.append(
            {
                **stage,
                "first": _digits(values[0]),
                "last": _digits(sum(last) / len(last)),
                "curve": [[step, _digits(value)] for step, value in smooth(curve, POINTS)],
            }
        )
    return {
        "method": method.name,
        "config": method.path.as_posix(),
        "paper": method.paper,
        **{key: result[key] for key in ("steps", "seed", "images", "size")},
        "stages": stages,
        "held_out": result["held_out"],
        "seconds": round(state.seconds, 1),
        "command": state.content.get("command"),
        "commit": state.content.get("commit"),
        "machine": state.content.get("machine"),
    }


def write_record(folder: Path, record: Record) -> None:
    """Write a record as its method's file."""
    update_json(folder / f"{record['method']}.json", record)


def read_records(folder: Path) -> list[Record]:
    """All records of a folder, by name.

    Raises:
        UserError: a file that is no record.
    """
    records = []
    for path in sorted(folder.glob("*.json")):
        record = read_json(path)
        if not isinstance(record, dict) or any(key not in record for key in KEYS):
            raise UserError(
                "records", str(path), expected=f"a record with the keys {', '.join(KEYS)}"
            )
        records.append(record)
    return records


def verdict(record: Record) -> str:
    """Whether the run did what training should, in a few words: "yes", or what it did not."""
    last, held = record["stages"][-1], record["held_out"]
    if held["loss"] is None or last["last"] is None:
        return "no: it diverged"
    faults = []
    if not last["last"] < last["first"]:
        faults.append("the loss did not fall")
    if not held["loss"] < held["mean_target"]:
        faults.append("not below the mean target")
    return f"no: {' and '.join(faults)}" if faults else "yes"


def _digits(value: float) -> float:
    return float(f"{value:.5g}")
