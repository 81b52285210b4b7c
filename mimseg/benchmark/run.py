"""Runs a benchmark: its plan, its pipeline and its report."""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path
from time import monotonic

from mimseg.benchmark.config import read_config
from mimseg.benchmark.plan import Plan
from mimseg.benchmark.report import write_partial, write_report
from mimseg.benchmark.results import test_rows, write_record
from mimseg.errors import UserError
from mimseg.files import report_unwritable
from mimseg.pipeline.lock import WorkDirLock
from mimseg.pipeline.pipeline import Pipeline
from mimseg.pipeline.places import Places
from mimseg.pipeline.progress import duration
from mimseg.pipeline.provenance import environment, machine
from mimseg.pipeline.step import Step, StepState
from mimseg.progress import clock


def run_benchmark(args: argparse.Namespace, checkout: Path | None) -> int:
    """Run a benchmark with the arguments of `mimseg benchmark`.

    Args:
        args: those arguments.
        checkout: the repository; None for an installed package, which works in the current folder.

    Returns:
        0, 1 after a failed step, or 128 + n after signal n.

    Raises:
        UserError: a mistake in the config or the arguments.
    """
    config = read_config(args)
    root = checkout or Path.cwd()
    work_dir = (args.work_dir or root / "work_dirs" / args.config.stem).resolve()
    data_root = args.data_root.resolve() if args.data_root else None
    if data_root is not None and not data_root.is_dir():
        raise UserError("--data-root", str(data_root), expected="an existing folder")
    places = Places(root, work_dir, data_root, checkout=checkout is not None)
    plan = Plan(config, places, args.config.stem)
    if args.dry_run:
        dry_run(plan, places)
        return 0
    tests = {
        plan.test_name(task, init, seed): (task, init, seed)
        for task in plan.tasks
        for init in plan.inits(task)
        for seed in plan.seeds
    }
    start, facts = monotonic(), environment(checkout)

    def record(step: Step, state: StepState) -> None:
        if args.records and step.name in tests:
            for row in test_rows(plan, *tests[step.name]):
                write_record(args.records, plan.name, row)

    def report(pipeline: Pipeline) -> None:
        note = f"{len(pipeline.prints)} of {len(plan.steps)} steps are finished"
        note += f", about {duration(pipeline.eta())} left." if pipeline.running else "."
        write_partial(plan, facts, pipeline.prints, pipeline.running, note)

    with WorkDirLock(work_dir) as lock, report_unwritable("--work-dir", work_dir):
        print(f"{plan.name}: {len(plan.steps)} steps, {config['workers']} at once", flush=True)
        print(f"report: {work_dir / 'report.html'} (it grows with every step)", flush=True)
        pipeline = Pipeline(
            plan.steps,
            places,
            workers=config["workers"],
            estimates=config.get("estimate"),
            on_finish=record,
            on_change=report,
            facts={"commit": facts["commit"], "machine": machine()},
            lock=lock.fd,
        )
        code = pipeline.run()
        if code:
            report(pipeline)
            return code
        print(write_report(plan, environment(checkout)), flush=True)
    print(f"\nfinished in {clock(monotonic() - start)}\n\nnext:")
    print(f"  open {work_dir / 'report.html'} in a browser")
    for line in config.get("next", []):
        print(f"  {line.replace('{mimseg}', mimseg_command())}", flush=True)
    return 0


def mimseg_command() -> str:
    """How to call `mimseg` from where the user is: by its name, or by this interpreter."""
    if shutil.which("mimseg"):
        return "mimseg"
    python = Path(sys.executable)
    if python.is_relative_to(Path.cwd()):
        python = python.relative_to(Path.cwd())
    return f"{python} -m mimseg.cli"


def dry_run(plan: Plan, places: Places) -> None:
    """Print each step, what would happen to it, and its command."""
    pipeline = Pipeline(plan.steps, places)
    for number, step in enumerate(plan.steps, 1):
        waits = [name for name in [*step.needs, *step.after] if name not in pipeline.prints]
        if waits:
            verdict, argv = f"waits for {waits[0]}", step.argv
        else:
            verdict, argv, _ = pipeline.inspect(step)
        if verdict == "finished":
            pipeline.keep(step)
        print(f"[{number}/{len(plan.steps)}] {step.name}: {verdict}")
        print(f"    {places.readable(argv)}{' ...' if waits and step.late else ''}")
