"""Tabulates a metric by two properties of initializations, such as teacher and stage."""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass, field
from html import escape
from typing import Any

from mimseg.benchmark.summary import Summary, label, metric_name
from mimseg.errors import UserError

Row = dict[str, Any]


class Study:
    """What a benchmark's `study` says: which initialization is in which cell of a table.

    dBOT's Table 1 (arXiv 2209.03917) is of this kind: first teachers by stages, and for each stage
    the population standard deviation over the teachers.

    Args:
        config: dict(row_name='first teacher', column_name='stage', columns=['0', '1'],
            rows={'random': ['random', 'dBOT-random-stage1'], ...}); None for an empty cell. One
            initialization may be in several cells.
        inits: all initializations that the benchmark's tasks have.

    Raises:
        UserError: a key is missing or unknown, a row has too few or too many cells, or a cell names
            an initialization that no task has.
    """

    KEYS = ("row_name", "column_name", "columns", "rows")

    def __init__(self, config: dict[str, Any], inits: list[str]) -> None:
        if set(config) != set(self.KEYS):
            raise UserError("study", sorted(config), expected=f"the keys {', '.join(self.KEYS)}")
        self.config = config
        self.columns = [str(column) for column in config["columns"]]
        self.cells: dict[str, list[list[str]]] = {}
        for row, names in config["rows"].items():
            if len(names) != len(self.columns):
                raise UserError(
                    f"study.rows[{row!r}]",
                    names,
                    expected=f"{len(self.columns)} initializations, one per column",
                    fix="put None for an empty cell",
                )
            for column, init in zip(self.columns, names, strict=True):
                if init is None:
                    continue
                if init not in inits:
                    raise UserError(
                        f"study.rows[{row!r}]", init, expected=f"one of the inits {inits}"
                    )
                self.cells.setdefault(init, []).append([row, column])

    def facts(self, init: str) -> Row:
        """What each result row of an initialization carries: its cells, and the table's shape."""
        if init not in self.cells:
            return {}
        shape = {"row_name": self.config["row_name"], "column_name": self.config["column_name"]}
        shape |= {"rows": list(self.config["rows"]), "columns": self.columns}
        return {"study": {**shape, "cells": self.cells[init]}}


@dataclass
class StudyTable:
    """One metric of a study: `values` are those of the seeds, by (row, column)."""

    task: str
    metric: str
    row_name: str
    column_name: str
    rows: list[str] = field(default_factory=list)
    columns: list[str] = field(default_factory=list)
    values: dict[tuple[str, str], list[float]] = field(default_factory=dict)

    def cell(self, row: str, column: str) -> Summary | None:
        """Mean and spread over seeds; None where nothing was run."""
        values = self.values.get((row, column))
        return Summary.of(values) if values else None

    def column(self, column: str) -> list[Summary]:
        """The filled cells of a column."""
        cells = [self.cell(row, column) for row in self.rows]
        return [cell for cell in cells if cell is not None]

    def deviation(self, column: str) -> float | None:
        """Population standard deviation of a column's means; None for fewer than two."""
        means = [cell.mean for cell in self.column(column)]
        return statistics.pstdev(means) if len(means) > 1 else None

    def chance(self, column: str) -> float | None:
        """The deviation to expect if all rows were equal and the seeds alone made them differ."""
        cells = self.column(column)
        if len(cells) < 2 or any(cell.spread is None for cell in cells):
            return None
        variance = statistics.fmean(cell.spread**2 / cell.n for cell in cells)
        return math.sqrt(variance * (len(cells) - 1) / len(cells))

    def lines(self) -> list[list[str]]:
        """The table as texts: head, one line per row, then the deviations."""
        lines = [[self.row_name, *(f"{self.column_name} {column}" for column in self.columns)]]
        for row in self.rows:
            cells = [self.cell(row, column) for column in self.columns]
            lines.append([row, *(cell.text() if cell else "" for cell in cells)])
        lines.append(["population std", *(_number(self.deviation(c)) for c in self.columns)])
        chances = [self.chance(column) for column in self.columns]
        if any(chance is not None for chance in chances):
            lines.append(["expected from the seeds alone", *map(_number, chances)])
        return lines

    def sentence(self) -> str:
        """What the deviations are; '' where there are none."""
        columns = [(self.deviation(column), column) for column in self.columns]
        parts = [f"{d:.2f} at {self.column_name} {c}" for d, c in columns if d is not None]
        if not parts:
            return ""
        listed = " and ".join(filter(None, [", ".join(parts[:-1]), parts[-1]]))
        return (
            f"{label(self.task)}: over {len(self.rows)} {self.row_name}s, "
            f"{metric_name(self.metric)} has a population standard deviation of {listed}."
        )

    def to_dict(self) -> Row:
        """The table as plain data, for report.json."""
        cells = []
        for row in self.rows:
            for column in self.columns:
                if cell := self.cell(row, column):
                    content = {"row": row, "column": column, "mean": round(cell.mean, 3)}
                    cells.append({**content, "n": cell.n, "values": self.values[row, column]})
        deviations = {column: self.deviation(column) for column in self.columns}
        return {
            **{key: getattr(self, key) for key in ("task", "metric", "row_name", "column_name")},
            "rows": self.rows,
            "columns": self.columns,
            "cells": cells,
            "population_std": {
                c: None if d is None else round(d, 3) for c, d in deviations.items()
            },
        }


def study_tables(rows: list[Row]) -> list[StudyTable]:
    """One table per task and metric, from result rows or records; others are ignored."""
    tables: dict[tuple[str, str], StudyTable] = {}
    for row in rows:
        if not (facts := row.get("study")):
            continue
        key = (row.get("name", row["task"]), row["metric"])
        names = (facts["row_name"], facts["column_name"])
        table = tables.setdefault(key, StudyTable(*key, *names))
        table.rows = list(dict.fromkeys([*table.rows, *facts["rows"]]))
        table.columns = list(dict.fromkeys([*table.columns, *facts["columns"]]))
        for cell in facts["cells"]:
            table.values.setdefault(tuple(cell), []).append(row["value"])
    return list(tables.values())


def study_markdown(tables: list[StudyTable]) -> str:
    """The tables in Markdown, each under its metric's name; '' for none."""
    parts = []
    for table in tables:
        head, *lines = [f"| {' | '.join(line)} |" for line in table.lines()]
        rule = "|---" * (1 + len(table.columns)) + "|"
        title = f"{label(table.task)}, {metric_name(table.metric)} by {table.row_name}"
        parts.append("\n".join([f"{title} and {table.column_name}:", "", head, rule, *lines]))
    return "\n\n".join(parts)


def study_html(tables: list[StudyTable]) -> str:
    """The tables as a section of report.html; '' for none."""
    if not tables:
        return ""
    parts = []
    for table in tables:
        head, *lines = table.lines()
        texts = [_cells(head, "th"), *(_cells(line, "td") for line in lines)]
        title = f"{label(table.task)}, {metric_name(table.metric)}"
        parts.append(
            f"<h3>{escape(title)}</h3><div class='scroll'><table><thead><tr>{texts[0]}</tr></thead>"
            f"<tbody>{''.join(f'<tr>{text}</tr>' for text in texts[1:])}</tbody></table></div>"
        )
    title = f"By {tables[0].row_name} and {tables[0].column_name}"
    note = (
        "Test split, percent points; mean ± sample standard deviation over the seeds of the "
        "fine-tuning. Below, the population standard deviation of each column's means, and "
        "what it would be if the rows were equal and the seeds alone made them differ."
    )
    return (
        f"<section><h2>{escape(title)}</h2>{''.join(parts)}<p class='note'>{note}</p></section>\n"
    )


def _cells(line: list[str], kind: str) -> str:
    first, *others = (escape(text) for text in line)
    return f"<{kind}>{first}</{kind}>" + "".join(f"<{kind} class='n'>{t}</{kind}>" for t in others)


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"
