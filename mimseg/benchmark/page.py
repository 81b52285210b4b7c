"""report.html: one page that needs nothing beside itself."""

from __future__ import annotations

import base64
from html import escape
from pathlib import Path
from typing import Any

from mimseg.benchmark.charts import COLORS, Line, dot_chart, init_colors, line_chart
from mimseg.benchmark.choice import point_name, short
from mimseg.benchmark.plan import Plan
from mimseg.benchmark.study import study_html, study_tables
from mimseg.benchmark.style import CSS
from mimseg.benchmark.summary import label, metric_name, verdict_text
from mimseg.files import read_json
from mimseg.pipeline.scalars import read_curve, scalar_files, smooth
from mimseg.progress import clock

Report = dict[str, Any]


def page(report: Report, plan: Plan) -> str:
    """The whole page as text; pictures and curves are read from the plan's work dir."""
    sections = [
        _head(report),
        study_html(study_tables(report["runs"])),
        _results(report),
        *(_pretraining(plan, item) for item in plan.pretrains.values()),
        *(_task(plan, task) for task in plan.tasks),
        _choices(report),
        _ran(report),
        _environment(report["environment"]),
    ]
    title = escape(f"{report['title']}: mimseg benchmark")
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{title}</title>\n<style>{CSS}</style>\n</head>\n<body>\n<main>\n"
        f"{''.join(filter(None, sections))}</main>\n</body>\n</html>\n"
    )


def _head(report: Report) -> str:
    facts = report["environment"]
    total = sum(step["seconds"] for step in report["steps"])
    seeds = len(report["seeds"])
    eyebrow = f"mimseg benchmark · {report['title']} · {facts['date'][:10]}"
    sentences = "".join(f'<p class="lead">{_tied(text)}</p>' for text in report["findings"])
    cost = (
        f"{seeds} seed{'s' if seeds > 1 else ''}; {len(report['steps'])} steps, "
        f"{clock(total)} of work on {facts['cpu']}, {facts['cores']} cores."
    )
    return (
        f'<header><p class="eyebrow">{escape(eyebrow)}</p><h1>{_tied(report["headline"])}</h1>'
        f'{sentences}<p class="note">{escape(cost)}</p></header>\n'
    )


def _results(report: Report) -> str:
    rows, charts, seen = [], [], None
    colors = init_colors(list(dict.fromkeys(row["init"] for row in report["summary"])))
    for row in report["summary"]:
        key = (row["name"], row["metric"])
        first = key != seen
        seen = key
        verdict = ""
        if "base" in row:
            text = verdict_text(row["verdict"])
            verdict = f"<span class='tag {row['verdict'].split()[0]}'>{text}</span>"
        spread = f" <span class='pm'>± {row['spread']:.1f}</span>" if row["n"] > 1 else ""
        difference = f"{row['difference']:+.1f}" if "base" in row else ""
        seeds = ", ".join(f"{value:.1f}" for value in row["values"])
        rows.append(
            f"<tr><td>{escape(label(row['name'])) if first else ''}</td>"
            f"<td>{metric_name(row['metric']) if first else ''}</td><td>{escape(row['init'])}</td>"
            f"<td class='n b'>{row['mean']:.1f}{spread}</td><td class='n'>{difference}</td>"
            f"<td>{verdict}</td><td class='n'>{seeds}</td></tr>"
        )
        if first:
            own = [r for r in report["summary"] if (r["name"], r["metric"]) == key]
            dots = [(r["init"], r["values"], colors[r["init"]]) for r in own]
            charts.append(dot_chart(dots, f"{label(row['name'])}, {metric_name(row['metric'])}"))
    many = len(report["seeds"]) > 1
    note = "Test split, percent points. " + (
        "Mean ± sample standard deviation over the seeds; “outside the spread” means that the "
        "means differ by more than the larger of the two deviations."
        if many
        else "One seed, so how much a run varies by itself is not known."
    )
    names = ["Task", "Metric", "Initialisation"]
    head = "".join(f"<th>{name}</th>" for name in names)
    head += "<th class='n'>Mean</th><th class='n'>Difference</th><th></th><th class='n'>Seeds</th>"
    return (
        f"<section><h2>Results</h2><div class='scroll'><table><thead><tr>{head}</tr></thead>"
        f"<tbody>{''.join(rows)}</tbody></table></div><p class='note'>{note}</p>"
        f"<div class='charts dots'>{''.join(charts)}</div></section>\n"
    )


def _tied(text: str) -> str:
    """Escaped text whose numbers stay on one line with their signs and units."""
    for mark in (" ± ", " mIoU", " mask AP", " AP"):
        text = text.replace(mark, mark.replace(" ", "\u00a0"))
    return escape(text)


def _pretraining(plan: Plan, item: dict[str, Any]) -> str:
    if "checkpoint" in item:
        return ""
    name = f"pretrain-{item['name']}"
    lines = []
    for number, (stage, files) in enumerate(scalar_files(plan.places.work_dir / name).items()):
        color = COLORS[number % len(COLORS)]
        lines.append(Line(stage or item["name"], smooth(read_curve(files, "loss")), color))
    chart = line_chart("Pretraining loss", lines, "iterations", y_log=True)
    return (
        f"<section><h2>Pretraining: {escape(item['name'])}</h2>"
        f"<p class='note'><code>{escape(item['config'])}</code></p>"
        f"{_panel(plan.places.work_dir / f'panels-{name}')}"
        f"<div class='charts'>{chart}</div></section>\n"
    )


def _task(plan: Plan, task: dict[str, Any]) -> str:
    inits, seed = plan.inits(task), plan.seeds[0]
    colors = init_colors(inits)
    select = task["metrics"][task["select"]]
    pictures = plan.places.work_dir / f"panels-{task['name']}"
    losses, scores = [], []
    for init in inits:
        run = plan.places.work_dir / plan.chosen_run(task, init, seed)
        files = [path for own in scalar_files(run).values() for path in own]
        losses.append(Line(init, smooth(read_curve(files, "loss")), colors[init]))
        scale = task.get("scale", 1)
        points = [(x, y * scale) for x, y in read_curve(files, select)]
        scores.append(Line(init, points, colors[init], marks=True))
    charts = [line_chart("Training loss", losses, "iterations")]
    if any(len(line.points) > 1 for line in scores):
        charts.append(
            line_chart(f"{metric_name(task['select'])}, validation split", scores, "iterations")
        )
    return (
        f"<section><h2>{escape(label(task['name']))}</h2>"
        f"<p class='note'><code>{escape(task['config'])}</code></p>"
        f"{_panel(pictures)}"
        f"<div class='charts'>{''.join(charts)}</div>"
        f"<p class='note'>Curves of seed {seed} at the chosen grid point.</p></section>\n"
    )


def _panel(folder: Path) -> str:
    content = read_json(folder / "panels.json")
    if not content or not content["rows"]:
        return ""
    names = content["columns"]
    pictures = [
        [_picture(folder / file, name) for name, file in zip(names, row, strict=True)]
        for row in content["rows"]
    ]
    heads = [f"<div>{escape(name)}</div>" for name in names]
    if content["kind"] == "pretrain":  # many small images: one a column, as papers show them
        lines = [[head, *row] for head, row in zip(heads, zip(*pictures, strict=True), strict=True)]
        columns = f"112px repeat({len(pictures)}, minmax(0, 170px))"
    else:
        lines = [heads, *pictures]
        columns = f"repeat({len(names)}, minmax(0, 1fr))"
    cells = "".join(cell for line in lines for cell in line)
    legend = "".join(
        f"<span><i style='background:{escape(item['color'])}'></i>{escape(item['name'])}</span>"
        for item in content["legend"]
    )
    return (
        f"<p class='note'>{escape(content['note'])}</p><div class='legend'>{legend}</div>"
        f"<div class='panel' style='grid-template-columns: {columns}'>{cells}</div>"
    )


def _picture(path: Path, name: str) -> str:
    data = base64.b64encode(path.read_bytes()).decode()
    return f'<img alt="{escape(name)}" src="data:image/jpeg;base64,{data}">'


def _choices(report: Report) -> str:
    grids = [grid for grid in report["grid"] if len(grid["values"]) > 1]
    if not grids:
        return ""
    tables = []
    for name in dict.fromkeys(grid["name"] for grid in grids):
        own = [grid for grid in grids if grid["name"] == name]
        keys = list(own[0]["values"][0]["point"])
        head = "".join(f"<th>{escape(key.replace('_', ' '))}</th>" for key in keys)
        head += "".join(f"<th class='n'>{escape(grid['init'])}</th>" for grid in own)
        rows = []
        for number, item in enumerate(own[0]["values"]):
            row = "".join(f"<td>{escape(short(item['point'][key]))}</td>" for key in keys)
            for grid in own:
                value = grid["values"][number]["value"]
                text = "diverged" if value is None else f"{value:.1f}"
                chosen = grid["chosen"] == item["point"]
                row += f"<td class='n{' b' if chosen else ''}'>{'✓ ' if chosen else ''}{text}</td>"
            rows.append(f"<tr>{row}</tr>")
        title = f"{label(name)}, {metric_name(own[0]['metric'])} on the validation split"
        tables.append(
            f"<h3>{escape(title)}</h3><div class='scroll'><table><thead><tr>{head}</tr></thead>"
            f"<tbody>{''.join(rows)}</tbody></table></div>"
        )
    return (
        "<section><h2>How the settings were chosen</h2><p>Every initialisation got the same budget "
        "and the same grid, trained with the first seed. ✓ marks the best on the validation split; "
        f"only that point was tested.</p>{''.join(tables)}</section>\n"
    )


def _ran(report: Report) -> str:
    runs = "".join(
        f"<tr><td>{escape(label(run['name']))}</td><td>{escape(run['init'])}</td>"
        f"<td>{run['seed']}</td><td>{metric_name(run['metric'])}</td>"
        f"<td class='n'>{run['value']:.2f}</td>"
        f"<td>{escape(point_name(run['point']))}</td>"
        f"<td class='n'>{clock(run['seconds'])}</td></tr>"
        for run in report["runs"]
    )
    steps = "".join(
        f"<tr><td>{escape(step['name'])}<br><code>{escape(step['command'] or '')}</code></td>"
        f"<td class='n'>{clock(step['seconds'])}</td></tr>"
        for step in report["steps"]
    )
    names = ("Task", "Initialisation", "Seed", "Metric", "Value", "Point", "Time")
    right = ("Value", "Time")
    head = "".join(f"<th{' class=n' if name in right else ''}>{name}</th>" for name in names)
    return (
        "<section><h2>What ran</h2>"
        f"<details><summary>Test results of every run ({len(report['runs'])})</summary>"
        f"<div class='scroll'><table><thead><tr>{head}</tr></thead><tbody>{runs}</tbody></table>"
        f"</div></details><details><summary>Steps and commands ({len(report['steps'])})</summary>"
        "<div class='scroll'><table><thead><tr><th>Step</th><th class='n'>Time</th></tr></thead>"
        f"<tbody>{steps}</tbody></table></div></details></section>\n"
    )


def _environment(facts: dict[str, Any]) -> str:
    rows = []
    for key, value in facts.items():
        if isinstance(value, dict):
            value = ", ".join(f"{name} {version}" for name, version in value.items())
        rows.append(f"<dt>{escape(key.capitalize())}</dt><dd>{escape(str(value))}</dd>")
    return f"<section><h2>Environment</h2><dl class='facts'>{''.join(rows)}</dl></section>\n"
