"""The tables of interrupted and broken runs, and a few of the events themselves."""

import json

import pytest

from dev.faults.main import events, make_record, try_events
from dev.records import read_records, table
from dev.trust import faults_table, grid_table
from mimseg.errors import UserError

ORIGIN = dict(command="python x", commit="0123456789ab", cores=2, cpu="X", torch="2")
CELL = dict(run="mae", processes=1, workers=0, accumulation=1, bf16=False, place="middle")


def test_a_difference_is_counted_and_a_cell_that_was_not_run_is_not():
    cells = [dict(CELL, difference=d, workers=w) for d, w in (("", 0), ("weights", 2), (None, 4))]
    text = grid_table(dict(ORIGIN, cells=cells))
    assert "| mae | middle | 1 | 0, 2 | 1 | float32 | 2 | 1 |" in text


def test_a_lost_run_is_counted():
    kinds = [dict(kind="kill", runs=["mae"], events=3, lost=1), dict(kind="x", runs=[], events=0)]
    text = faults_table(dict(ORIGIN, kinds=[dict(k, lost=k.get("lost", 0)) for k in kinds]))
    assert "| kill | mae | 3 | 1 |" in text and "| all | | 3 | 1 |" in text and "| x |" not in text


def test_the_records_stand_with_the_others(tmp_path):
    record = dict(ORIGIN, kind="resume_grid", cells=[dict(CELL, difference="")])
    (tmp_path / "resume_grid.json").write_text(json.dumps(record))
    assert "### trust" in table(read_records(tmp_path))
    (tmp_path / "other.json").write_text("{}")
    with pytest.raises(UserError, match="a record with the keys"):
        read_records(tmp_path)


def test_nothing_is_lost(tmp_path):
    kinds = ("kill in a write", "newest damaged", "other files", "refused writes")
    every = [event for event in events(1) if event.run == "mae"]
    chosen = [next(event for event in every if event.kind == kind) for kind in kinds]
    results = try_events(chosen, tmp_path)
    assert [result["lost"] for result in results] == [""] * len(kinds)
    record = make_record(results, 1, "--seed 1")
    assert sum(kind["events"] for kind in record["kinds"]) == len(kinds)
