"""Writes report.html while a benchmark runs, and all reports when it is finished."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from mimseg.benchmark.grid import point_name
from mimseg.benchmark.page import page
from mimseg.benchmark.plan import Plan
from mimseg.benchmark.results import collect, headline
from mimseg.benchmark.study import study_markdown, study_tables
from mimseg.benchmark.summary import label, metric_name, verdict_text
from mimseg.files import write_json, write_text
from mimseg.progress import clock


def write_report(plan: Plan, environment: dict[str, Any]) -> str:
    """Write the three files into the work dir; returns the tables as text for the terminal.

    `report.json` has `runs` (task, init, seed, metric, value in percent points, split, config,
    point, seconds, ...), `summary` (means, spreads, comparisons), `findings`, `study` (its tables,
    where the config has one), `grid` (validation values), `steps` and `environment`.

    Args:
        environment: what the numbers were measured with.
    """
    every = [step.name for step in plan.steps]
    report = collect(plan, every, environment)
    report["headline"] = headline(report["summary"], plan.tasks)
    if sentences := [s for table in study_tables(report["runs"]) if (s := table.sentence())]:
        report["headline"], *report["findings"] = sentences
    folder = plan.places.work_dir
    write_json(folder / "report.json", report)
    write_text(folder / "report.md", markdown(report))
    write_text(folder / "report.html", page(report, plan, every))
    tables = [_results(report), study_markdown(study_tables(report["runs"]))]
    text = "\n\n".join(filter(None, tables))
    return f"\n{report['headline']}\n\n{text}"


def write_partial(
    plan: Plan,
    environment: dict[str, Any],
    finished: Collection[str],
    running: Collection[str],
    note: str,
) -> None:
    """Write report.html with what there is so far.

    Args:
        environment: what the numbers are measured with.
        finished: names of the finished steps.
        running: names of the steps under way; a browser reloads the page while there are any.
        note: how far the benchmark is.
    """
    report = collect(plan, finished, environment)
    state = "is running" if running else "is not finished"
    report["headline"] = f"The {report['title']} benchmark {state}."
    report["findings"] = [note, *report["findings"]]
    write_text(plan.places.work_dir / "report.html", page(report, plan, finished, running))


def markdown(report: dict[str, Any]) -> str:
    """The report without pictures."""
    lines = [f"# {report['title']}", "", report["headline"], ""]
    lines += [f"- {sentence}" for sentence in report["findings"]]
    lines += ["", "## Results", "", _results(report), ""]
    lines += ["Test split, percent points; mean ± sample standard deviation over seeds.", ""]
    if study := study_markdown(study_tables(report["runs"])):
        lines += ["## Study", "", study, ""]
    lines += ["## Every run", "", "| task | init | seed | metric | value | point | seconds |"]
    lines += ["|---|---|---|---|---|---|---|"]
    for run in report["runs"]:
        words = [run["name"], run["init"], run["seed"], run["metric"], f"{run['value']:.2f}"]
        words += [point_name(run["point"]), f"{run['seconds']:.0f}"]
        lines.append(f"| {' | '.join(map(str, words))} |")
    lines += ["", "## Chosen on the validation split", ""]
    lines += ["| task | init | point | metric | value |", "|---|---|---|---|---|"]
    for grid in report["grid"]:
        for item in grid["values"]:
            mark = " (chosen)" if item["point"] == grid["chosen"] else ""
            value = "diverged" if item["value"] is None else f"{item['value']:.2f}"
            words = [grid["name"], grid["init"], point_name(item["point"]) + mark]
            lines.append(f"| {' | '.join([*words, grid['metric'], value])} |")
    lines += ["", "## Steps", "", "| step | time |", "|---|---|"]
    lines += [f"| {step['name']} | {clock(step['seconds'])} |" for step in report["steps"]]
    lines += ["", "## Environment", ""]
    for key, value in report["environment"].items():
        if isinstance(value, dict):
            value = ", ".join(f"{name} {version}" for name, version in value.items())
        lines.append(f"- {key}: {value}")
    return "\n".join(lines) + "\n"


def _results(report: dict[str, Any]) -> str:
    lines = ["| task | metric | init | mean | seeds | difference |", "|---|---|---|---|---|---|"]
    for row in report["summary"]:
        difference = ""
        if "base" in row:
            difference = f"{row['difference']:+.1f} ({verdict_text(row['verdict'])})"
        words = [
            label(row["name"]),
            metric_name(row["metric"]),
            row["init"],
            row["text"],
            row["n"],
            difference,
        ]
        lines.append(f"| {' | '.join(map(str, words))} |")
    return "\n".join(lines)
