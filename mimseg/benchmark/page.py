"""Writes report.html: one page that loads no other file."""

from __future__ import annotations

import base64
from collections.abc import Collection
from html import escape
from pathlib import Path
from typing import Any

from mimseg.benchmark.charts import COLORS, Line, dot_chart, init_colors, line_chart
from mimseg.benchmark.grid import point_name, short
from mimseg.benchmark.plan import Plan
from mimseg.benchmark.study import study_html, study_tables
from mimseg.benchmark.summary import label, metric_name, verdict_text
from mimseg.files import read_json
from mimseg.pipeline.scalars import read_curve, scalar_files, smooth
from mimseg.progress import clock

Report = dict[str, Any]
CSS = Path(__file__).with_name("report.css")
RELOAD = 10  # seconds, while steps run


def page(
    report: Report, plan: Plan, finished: Collection[str], running: Collection[str] = ()
) -> str:
    """The whole page as text; pictures and curves are read from the plan's work dir.

    Args:
        report: from `collect`, with a headline.
        plan: the plan.
        finished: names of the finished steps; what others would show is left out.
        running: names of the steps under way; the page reloads itself while there are any.
    """
    sections = [
        _head(report),
        study_html(study_tables(report["runs"])),
        _results(report),
        *(_pretraining(plan, item, finished, running) for item in plan.pretrains.values()),
        *(_task(plan, task, finished) for task in plan.tasks),
        _choices(report),
        _ran(report),
        _environment(report["environment"]),
    ]
    title = escape(f"{report['title']}: mimseg benchmark")
    reload = f'<meta http-equiv="refresh" content="{RELOAD}">\n' if running else ""
    css = CSS.read_text(encoding="utf-8")
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"{reload}<title>{title}</title>\n<style>\n{css}</style>\n</head>\n<body>\n<main>\n"
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
    if not report["summary"]:
        return ""
    rows, charts, seen = [], [], None
    many = len(report["seeds"]) > 1  # one seed has no spread to show, and no list of values
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
        difference = f"{row['difference']:+.1f}".replace("-", "−") if "base" in row else ""
        seeds = ", ".join(f"{value:.1f}" for value in row["values"])
        over_seeds = f"<td>{verdict}</td><td class='n'>{seeds}</td>" if many else ""
        rows.append(
            f"<tr><td>{escape(label(row['name'])) if first else ''}</td>"
            f"<td class='w'>{metric_name(row['metric']) if first else ''}</td>"
            f"<td>{escape(row['init'])}</td>"
            f"<td class='n b'>{row['mean']:.1f}{spread}</td><td class='n'>{difference}</td>"
            f"{over_seeds}</tr>"
        )
        if first:
            group = [r for r in report["summary"] if (r["name"], r["metric"]) == key]
            dots = [(r["init"], r["values"], colors[r["init"]]) for r in group]
            charts.append(dot_chart(dots, f"{label(row['name'])}, {metric_name(row['metric'])}"))
    note = "Test split, percent points. " + (
        "Mean ± sample standard deviation over the seeds; “outside the spread” means that the "
        "means differ by more than the larger of the two deviations."
        if many
        else "One seed, so how much a run varies by itself is not known."
    )
    names = ["Task", "Metric", "Initialization"]
    head = "".join(f"<th>{name}</th>" for name in names)
    head += f"<th class='n'>{'Mean' if many else 'Value'}</th><th class='n'>Difference</th>"
    head += "<th></th><th class='n'>Seeds</th>" if many else ""
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


def _pretraining(
    plan: Plan, item: dict[str, Any], finished: Collection[str], running: Collection[str]
) -> str:
    name = f"pretrain-{item['name']}"
    lines = []
    if name in finished or name in running:
        stages = scalar_files(plan.places.work_dir / name)
        for number, (stage, files) in enumerate(stages.items()):
            color = COLORS[number % len(COLORS)]
            lines.append(Line(stage or item["name"], smooth(read_curve(files, "loss")), color))
    chart = line_chart("Pretraining loss", lines, "iterations", y_log=True)
    panel = _panel(plan, name, finished)
    return _section(f"Pretraining: {item['name']}", item.get("config", ""), panel, [chart])


def _task(plan: Plan, task: dict[str, Any], finished: Collection[str]) -> str:
    inits, seed = plan.inits(task), plan.seeds[0]
    colors = init_colors(inits)
    select = task["metrics"][task["select"]]
    losses, scores = [], []
    for init in inits:
        if not plan.has_choice(task, init, finished):
            continue
        run = plan.places.work_dir / plan.chosen_run(task, init, seed)
        files = [path for stage in scalar_files(run).values() for path in stage]
        losses.append(Line(init, smooth(read_curve(files, "loss")), colors[init]))
        scale = task.get("scale", 1)
        points = [(x, y * scale) for x, y in read_curve(files, select)]
        scores.append(Line(init, points, colors[init], marks=True))
    charts = [line_chart("Training loss", losses, "iterations")]
    if any(len(line.points) > 1 for line in scores):
        charts.append(
            line_chart(f"{metric_name(task['select'])}, validation split", scores, "iterations")
        )
    note = f"Curves of seed {seed} at the chosen grid point."
    if len(plan.seeds) == len(plan.points(task)) == 1:
        note = ""
    panel = _panel(plan, task["name"], finished)
    return _section(label(task["name"]), task["config"], panel, charts, note)


def _section(title: str, config: str, panel: str, charts: list[str], note: str = "") -> str:
    """A section with pictures and charts; '' where it would have neither."""
    drawn = "".join(charts)
    if not panel and not drawn:
        return ""
    return (
        f"<section><h2>{escape(title)}</h2><p class='note'><code>{escape(config)}</code></p>"
        f"{panel}<div class='charts'>{drawn}</div>"
        f"{f'<p class=note>{note}</p>' if note and drawn else ''}</section>\n"
    )


def _panel(plan: Plan, name: str, finished: Collection[str]) -> str:
    """The pictures of a finished run, or those of its data until it is finished."""
    steps = [step for step in (f"panels-{name}", f"preview-{name}") if step in finished]
    content = read_json(plan.places.work_dir / steps[0] / "panels.json") if steps else None
    if not content or not content["rows"]:
        return ""
    return _panel_grid(plan.places.work_dir / steps[0], content)


def _panel_grid(folder: Path, content: dict[str, Any]) -> str:
    names = content["columns"]
    pictures = [
        [_picture(folder / file, name) for name, file in zip(names, row, strict=True)]
        for row in content["rows"]
    ]
    heads = [f"<div>{escape(name)}</div>" for name in names]
    if content["kind"] == "pretrain" or len(names) == 2:  # one image per column, as papers do
        lines = [[head, *row] for head, row in zip(heads, zip(*pictures, strict=True), strict=True)]
        layout = "panel across"
        columns = f"minmax(max-content, 112px) repeat({len(pictures)}, minmax(88px, 170px))"
    else:
        lines = [heads, *pictures]
        layout = "panel"
        columns = f"repeat({len(names)}, minmax(88px, 1fr))"
    cells = "".join(cell for line in lines for cell in line)
    legend = "".join(
        f"<span><i style='background:{escape(item['color'])}'></i>{escape(item['name'])}</span>"
        for item in content["legend"]
    )
    return (
        f"<p class='note'>{escape(content['note'])}</p><div class='legend'>{legend}</div>"
        f"<div class='{layout}' style='grid-template-columns: {columns}'>{cells}</div>"
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
        group = [grid for grid in grids if grid["name"] == name]
        keys = list(group[0]["values"][0]["point"])
        head = "".join(f"<th>{escape(key.replace('_', ' '))}</th>" for key in keys)
        head += "".join(f"<th class='n'>{escape(grid['init'])}</th>" for grid in group)
        rows = []
        for number, item in enumerate(group[0]["values"]):
            row = "".join(f"<td>{escape(short(item['point'][key]))}</td>" for key in keys)
            for grid in group:
                value = grid["values"][number]["value"]
                text = "diverged" if value is None else f"{value:.1f}"
                chosen = grid["chosen"] == item["point"]
                row += f"<td class='n{' b' if chosen else ''}'>{'✓ ' if chosen else ''}{text}</td>"
            rows.append(f"<tr>{row}</tr>")
        title = f"{label(name)}, {metric_name(group[0]['metric'])} on the validation split"
        tables.append(
            f"<h3>{escape(title)}</h3><div class='scroll'><table><thead><tr>{head}</tr></thead>"
            f"<tbody>{''.join(rows)}</tbody></table></div>"
        )
    return (
        "<section><h2>How the settings were chosen</h2><p>Every initialization got the same budget "
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
    names = ("Task", "Initialization", "Seed", "Metric", "Value", "Point", "Time")
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
