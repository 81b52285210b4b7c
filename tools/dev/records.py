"""Writes tables of the result records.

    python tools/dev records docs/results

writes the table of all records under the folder between the markers of its README.md.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from dev.cost.records import KEYS as COST_KEYS
from dev.cost.records import KIND as COST
from dev.cost.records import cost_table
from dev.trust import TABLES as TRUST
from dev.trust import trust_tables
from mimseg.benchmark.study import study_markdown, study_tables
from mimseg.benchmark.summary import Comparison, Summary, verdict_text
from mimseg.errors import UserError, exit_code
from mimseg.files import read_json, replace_section, write_text
from mimseg.pipeline.provenance import short_commit

BEGIN, END = "<!-- records: begin -->", "<!-- records: end -->"
KEYS = (
    *("benchmark", "name", "task", "init", "seed", "metric", "value"),
    *("config", "command", "commit"),
)


def read_records(folder: Path) -> list[dict[str, Any]]:
    """All records under a folder, in the order of their paths.

    Raises:
        UserError: the folder is missing, or a JSON file in it is no record.
    """
    if not folder.is_dir():
        raise UserError("records", str(folder), expected="an existing folder")
    records = []
    for path in sorted(folder.rglob("*.json")):
        record = read_json(path)
        kind = record.get("kind") if isinstance(record, dict) else None
        keys = COST_KEYS if kind == COST else ("command", "commit") if kind in TRUST else KEYS
        missing = [key for key in keys if not isinstance(record, dict) or key not in record]
        if missing:
            raise UserError(
                "records", str(path), expected=f"a record with the keys {', '.join(missing)}"
            )
        records.append(record)
    return records


def table(records: list[dict[str, Any]]) -> str:
    """The records as one Markdown table per benchmark: mean ± sample deviation over seeds.

    A study's own table, with the population deviation over its rows, follows its benchmark's. Rows
    of what training costs, and of what was interrupted and broken, have tables of another form.
    """
    parts = []
    measured = [record for record in records if record.get("kind") not in TRUST]
    for benchmark in dict.fromkeys(record["benchmark"] for record in measured):
        rows = [record for record in measured if record["benchmark"] == benchmark]
        make = cost_table if rows[0].get("kind") == COST else _table
        parts += [f"### {benchmark}", "", make(rows), ""]
        if study := study_markdown(study_tables(rows)):
            parts += [study, ""]
    parts.append(trust_tables(records))
    return "\n".join(parts).rstrip() or "No records yet."


def write_table(folder: Path) -> Path:
    """Put the table into `folder/README.md`, between the markers or at its end."""
    path = folder / "README.md"
    records = read_records(folder)
    text = path.read_text(encoding="utf-8") if path.is_file() else "# Results"
    if BEGIN not in text:
        write_text(path, f"{text.rstrip()}\n\n{BEGIN}\n{END}\n")
    replace_section(path, BEGIN, END, table(records))
    return path


def _table(records: list[dict[str, Any]]) -> str:
    groups: dict[tuple[str, str, str], list[dict[str, Any]]] = {}
    kinds = {}
    for record in records:
        key = (record["name"], record["metric"], record["init"])
        groups.setdefault(key, []).append(record)
        kinds[record["name"]] = record["task"]
    lines = [
        "| task | metric | init | mean ± std | seeds | against random | minutes per run | commit |",
        "|---|---|---|---|---|---|---|---|",
    ]

    def order(key: tuple[str, str, str]) -> tuple[bool | str, ...]:
        name, metric, init = key
        return kinds[name] != "semseg", name, metric, init != "random", init

    for key in sorted(groups, key=order):
        rows = groups[key]
        stats = Summary.of([row["value"] for row in rows])
        base = groups.get((*key[:2], "random"), [])
        against = "" if key[2] == "random" or not base else _against(base, stats)
        minutes = sum(row.get("seconds", 0) for row in rows) / len(rows) / 60
        commits = ", ".join(sorted({short_commit(row["commit"]) for row in rows}))
        lines.append(
            f"| {' | '.join(key)} | {stats.text()} | {stats.n} | {against} | {minutes:.1f} "
            f"| {commits} |"
        )
    return "\n".join(lines)


def _against(base: list[dict[str, Any]], stats: Summary) -> str:
    comparison = Comparison.of(Summary.of([row["value"] for row in base]), stats)
    return f"{comparison.difference:+.1f} ({verdict_text(comparison.verdict)})"


def main(argv: list[str] | None = None) -> int:
    """Run the command line. Returns 0, or 2 after a user's mistake."""
    parser = argparse.ArgumentParser(description="Write the table of the records in a folder.")
    parser.add_argument("folder", type=Path)
    args = parser.parse_args(argv)
    return exit_code(lambda: print(f"wrote {write_table(args.folder)}"))
