"""Tables of what was interrupted, broken and compared: the records of resume_grid and faults."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from mimseg.pipeline.provenance import short_commit

Record = dict[str, Any]


def grid_table(record: Record) -> str:
    """Cells and inequalities of each run, by where it was interrupted."""
    lines = [
        "| run | interrupted | processes | loader workers | accumulated | precision | cells | "
        "differ |",
        "|" + "---|" * 8,
    ]
    groups: dict[tuple[str, str], list[Record]] = {}
    for cell in record["cells"]:
        groups.setdefault((cell["run"], cell["place"]), []).append(cell)
    for (run, place), cells in groups.items():
        tried = [cell for cell in cells if cell["difference"] is not None]
        axes = [
            _values(tried, key, text)
            for key, text in (
                ("processes", str),
                ("workers", str),
                ("accumulation", str),
                ("bf16", lambda half: "bf16" if half else "float32"),
            )
        ]
        differ = sum(bool(cell["difference"]) for cell in tried)
        lines.append(f"| {run} | {place} | {' | '.join(axes)} | {len(tried)} | {differ} |")
    return "\n".join([_origin(record), "", *lines])


def faults_table(record: Record) -> str:
    """Events and lost runs of each kind."""
    lines = ["| kind | runs | events | lost |", "|---|---|---|---|"]
    for row in record["kinds"]:
        if row["events"]:
            runs = ", ".join(row["runs"])
            lines.append(f"| {row['kind']} | {runs} | {row['events']} | {row['lost']} |")
    events, lost = (sum(row[key] for row in record["kinds"]) for key in ("events", "lost"))
    lines.append(f"| all | | {events} | {lost} |")
    return "\n".join([_origin(record), "", *lines])


TABLES: dict[str, tuple[str, Callable[[Record], str]]] = {
    "resume_grid": ("Interrupted and resumed", grid_table),
    "faults": ("Killed and broken", faults_table),
}


def trust_tables(records: Sequence[Record]) -> str:
    """The tables of the records that are of these kinds, one after another."""
    parts = []
    for kind, (title, table) in TABLES.items():
        parts += [f"#### {title}\n\n{table(r)}" for r in records if r.get("kind") == kind]
    return "\n\n".join(["### trust", *parts]) if parts else ""


def _values(cells: Sequence[Record], key: str, text: Callable[[Any], str]) -> str:
    return ", ".join(dict.fromkeys(text(cell[key]) for cell in cells))


def _origin(record: Record) -> str:
    return (
        f"`{record['command']}`, commit {short_commit(record['commit'])}, {record['cores']} cores "
        f"({record['cpu']}), torch {record['torch']}."
    )
