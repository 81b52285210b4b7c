"""Gathers what the finished steps of a plan measured, and puts it into sentences."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

from mimseg.benchmark.config import RANDOM
from mimseg.benchmark.grid import read_metric
from mimseg.benchmark.plan import Plan
from mimseg.benchmark.study import study_tables
from mimseg.benchmark.summary import Comparison, Summary, label, metric_name, verdict_text
from mimseg.files import read_json, update_json
from mimseg.pipeline.step import StepState

Row = dict[str, Any]


def test_rows(plan: Plan, task: Row, init: str, seed: int) -> list[Row]:
    """One row for each metric of a test step that is finished; values in percent points."""
    folder = plan.places.work_dir / plan.test_name(task, init, seed)
    trained = StepState(plan.places.work_dir / plan.chosen_run(task, init, seed))
    tested = StepState(folder)
    return [
        {
            "task": task.get("task", task["name"]),
            "name": task["name"],
            "init": init,
            "seed": seed,
            "metric": metric,
            "value": round(read_metric(folder / "test.json", key) * task.get("scale", 1), 3),
            "split": "test",
            "config": task["config"],
            "point": plan.chosen(task, init),
            "seconds": round(trained.seconds + tested.seconds, 1),
            "command": trained.content.get("command"),
            "commit": trained.content.get("commit"),
            "machine": trained.content.get("machine"),
            **(plan.study.facts(init) if plan.study else {}),
        }
        for metric, key in task["metrics"].items()
    ]


def collect(plan: Plan, finished: Collection[str], environment: Row) -> Row:
    """The report of the finished steps as plain data; see `write_report` for its keys."""
    cells = [(task, init) for task in plan.tasks for init in plan.inits(task)]
    runs = [
        row
        for task, init in cells
        for seed in plan.seeds
        if plan.test_name(task, init, seed) in finished
        for row in test_rows(plan, task, init, seed)
    ]
    summary = summarise(runs)
    return {
        "benchmark": plan.name,
        "title": plan.config.get("title", plan.name),
        "seeds": plan.seeds,
        "runs": runs,
        "summary": summary,
        "findings": findings(summary, plan.tasks),
        "study": [table.to_dict() for table in study_tables(runs)],
        "grid": [grid(plan, *cell) for cell in cells if plan.has_choice(*cell, finished)],
        "steps": [_step(plan, step.name) for step in plan.steps if step.name in finished],
        "environment": environment,
    }


def summarise(runs: list[Row]) -> list[Row]:
    """Means and spreads over seeds, and the comparison with the first init of the same task.

    'random' is what others are compared with where it was run.
    """
    groups: dict[tuple[str, str], dict[str, list[float]]] = {}
    kinds = {}
    for run in runs:
        inits = groups.setdefault((run["name"], run["metric"]), {})
        inits.setdefault(run["init"], []).append(run["value"])
        kinds[run["name"]] = run["task"]
    rows = []
    for (name, metric), inits in groups.items():
        base = RANDOM if RANDOM in inits else next(iter(inits))
        for init, values in inits.items():
            stats = Summary.of(values)
            row = {"task": kinds[name], "name": name, "metric": metric, "init": init}
            row |= {"n": stats.n, "mean": round(stats.mean, 3), "spread": _round(stats.spread)}
            row |= {"values": values, "text": stats.text()}
            if init != base:
                against = Comparison.of(Summary.of(inits[base]), stats)
                row |= {"base": base, "difference": round(against.difference, 3)}
                row |= {"verdict": against.verdict, "against": _round(against.spread)}
            rows.append(row)
    return rows


def findings(summary: list[Row], tasks: list[Row]) -> list[str]:
    """One honest sentence for each comparison of the metric that a task selects by."""
    selects = {task["name"]: task["select"] for task in tasks}
    sentences = []
    for row in summary:
        if "base" not in row or row["metric"] != selects.get(row["name"]):
            continue
        base = next(
            other
            for other in summary
            if (other["name"], other["metric"], other["init"])
            == (row["name"], row["metric"], row["base"])
        )
        against = "random initialization" if row["base"] == RANDOM else row["base"]
        sentences.append(
            f"{label(row['name'])}: {row['text']} {metric_name(row['metric'])} with {row['init']} "
            f"pretraining, {base['text']} with {against} ({row['difference']:+.1f}, "
            f"{_verdict(row)})."
        )
    return sentences


def headline(summary: list[Row], tasks: list[Row]) -> str:
    """The answer in one sentence."""
    selects = {task["name"]: task["select"] for task in tasks}
    rows = [r for r in summary if "base" in r and r["metric"] == selects.get(r["name"])]
    if not rows:
        return "One initialization was run: there is nothing to compare."
    clauses = [
        _clause(init, [row for row in rows if row["init"] == init])
        for init in dict.fromkeys(row["init"] for row in rows)
    ]
    text = "; ".join(clauses)
    if others := [base for base in dict.fromkeys(row["base"] for row in rows) if base != RANDOM]:
        text = f"compared with {_join(others)}, {text}"
    if any(row["verdict"] == "one seed" for row in rows):
        text = f"In one seed, {text}"
    return f"{text[0].upper()}{text[1:]}."


def _clause(init: str, rows: list[Row]) -> str:
    """What one pretraining changes, in a few words."""
    groups: dict[str, list[str]] = {"improves": [], "worsens": [], "leaves": [], "inside": []}
    for row in rows:
        points = f"{abs(row['difference']):.1f} {metric_name(row['metric'])}"
        where = label(row["name"]).lower()
        if row["verdict"] == "inside the spread":
            groups["inside"].append(f"{where} ({'-' if row['difference'] < 0 else '+'}{points})")
        elif round(row["difference"], 1) == 0:
            groups["leaves"].append(f"{where} as it is")
        else:
            group = "improves" if row["difference"] > 0 else "worsens"
            groups[group].append(f"{where} by {points}")
    inside = _join(groups.pop("inside"))
    parts = [f"{verb} {_join(items)}" for verb, items in groups.items() if items]
    if not parts:
        return f"pretraining with {init} makes a difference inside the spread in {inside}"
    text = f"pretraining with {init} {' and '.join(parts)}"
    return f"{text}; its difference in {inside} is inside the spread" if inside else text


def grid(plan: Plan, task: Row, init: str) -> Row:
    """All validation values of a task's grid in percent points, and the point that was chosen."""
    chosen = plan.chosen(task, init)
    folder = plan.places.work_dir / "choices" / f"{task['name']}-{init}"
    choice = read_json(folder / "choice.json")
    scale = task.get("scale", 1)
    values = [
        {"point": item["point"], "value": _round(item["value"], scale)} for item in choice["grid"]
    ]
    return {
        "name": task["name"],
        "init": init,
        "metric": task["select"],
        "split": "val",
        "chosen": chosen,
        "values": values,
    }


def _verdict(row: Row) -> str:
    if row["verdict"] == "one seed":
        return verdict_text(row["verdict"])
    return f"{verdict_text(row['verdict'])} of {row['against']:.1f}"


def _join(items: list[str]) -> str:
    return " and ".join(filter(None, [", ".join(items[:-1]), *items[-1:]]))


def _round(value: float | None, scale: float = 1.0) -> float | None:
    return None if value is None else round(value * scale, 3)


def _step(plan: Plan, name: str) -> Row:
    state = StepState(plan.places.work_dir / name)
    done = read_json(state.folder / "done.json") or {}
    return {
        "name": name,
        "command": state.content.get("command"),
        "seconds": round(state.seconds, 1),
        "attempts": state.content.get("attempts"),
        "metrics": done.get("metrics") if isinstance(done, dict) else None,
    }


def write_record(folder: Path, benchmark: str, row: dict[str, Any]) -> Path:
    """Write one of `test_rows` as a file of its own."""
    name = f"{row['name']}_{row['init']}_seed{row['seed']}_{row['metric']}.json"
    return update_json(folder / name, {"benchmark": benchmark, **row})
