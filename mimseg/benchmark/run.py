"""Runs a benchmark: its plan, its pipeline and its report."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from mimseg import __version__
from mimseg.benchmark.plan import Plan
from mimseg.benchmark.report import write_report
from mimseg.benchmark.results import test_rows, write_record
from mimseg.benchmark.subset import subset
from mimseg.errors import UserError
from mimseg.pipeline.lock import WorkDirLock
from mimseg.pipeline.pipeline import Pipeline
from mimseg.pipeline.places import Places
from mimseg.pipeline.provenance import commit, machine
from mimseg.pipeline.step import Step, StepState


def run_benchmark(args: argparse.Namespace, checkout: Path | None) -> int:
    """Run a benchmark with the arguments of `mimseg benchmark`.

    Args:
        args: those arguments.
        checkout: the repository; None for an installed package, which works in the current folder.

    Returns:
        0, or 1 after a failed step.

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

    def record(step: Step, state: StepState) -> None:
        if args.records and step.name in tests:
            for row in test_rows(plan, *tests[step.name]):
                write_record(args.records, plan.name, row)

    with WorkDirLock(work_dir) as lock:
        print(f"{plan.name}: {len(plan.steps)} steps, work dir {work_dir}", flush=True)
        version = commit(checkout) if checkout else f"v{__version__}"
        facts = {"commit": version, "machine": machine()}
        code = Pipeline(
            plan.steps,
            places,
            workers=config["workers"],
            estimates=config.get("estimate"),
            on_finish=record,
            facts=facts,
            lock=lock.fd,
        ).run()
        if code == 0:
            print(write_report(plan), flush=True)
    return code


def read_config(args: argparse.Namespace) -> dict[str, Any]:
    """The benchmark's config with the command line's changes.

    Raises:
        UserError: the file is missing, does not load, or asks for less than one worker.
    """
    from mmengine.config import Config

    if not args.config.is_file():
        raise UserError(
            "config", str(args.config), expected="an existing file", fix="correct the path"
        )
    try:
        config = Config.fromfile(args.config, import_custom_modules=False)
        config.merge_from_dict(args.cfg_options)
    except Exception as error:
        raise UserError(
            "config", str(args.config), expected=f"a config that loads ({error})"
        ) from error
    found = subset(config.to_dict(), args.tasks, args.inits)
    if args.seeds:
        found["seeds"] = args.seeds
    found["workers"] = args.workers or found.get("workers", 1)
    if not isinstance(found["workers"], int) or found["workers"] < 1:
        raise UserError("workers", found["workers"], expected="a whole number of at least 1")
    return found


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
