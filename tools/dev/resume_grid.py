"""Compares runs that were interrupted and resumed with unbroken ones, bit for bit.

    python tools/dev resume-grid --out work_dirs/grid --record docs/results/trust/resume_grid.json

Every cell is a run, how it computes, and where it is interrupted: "boundary" kills it one step
after a checkpoint of its schedule (in the first step of the last stage, where there are stages),
"middle" sends SIGTERM to its last process between two of them (in the first stage, so that the
resumed run crosses the changes of stage). Cells that are done are not repeated.
"""

from __future__ import annotations

import argparse
import itertools
import shutil
import signal
import sys
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from dev.trial import RUNS, Interrupt, Trial, difference, import_all, make_data, train_trial
from mimseg.engine.amp_optim_wrapper import bf16_supported
from mimseg.engine.signals import RESUMABLE
from mimseg.files import read_json, write_json
from mimseg.pipeline.provenance import environment
from mimseg.progress import Progress
from mimseg.recipes.configs import CHECKOUT

PLACES = ("boundary", "middle")
KILLED = -signal.SIGKILL


def cells() -> list[tuple[Trial, str]]:
    """The whole grid."""
    grid = itertools.product(RUNS, (1, 2), (1, 2), (False, True), (0, 2), PLACES)
    return [
        (Trial(run, processes, workers, accumulation, bf16), place)
        for run, processes, accumulation, bf16, workers, place in grid
    ]


def interrupt_of(trial: Trial, place: str) -> Interrupt:
    """Where a cell is interrupted, and how."""
    run = RUNS[trial.run]
    if place == "middle":
        return Interrupt(run.stages[0], run.middle, signal.SIGTERM)
    step = run.boundary + 1 if len(run.stages) == 1 else 1
    return Interrupt(run.stages[-1], step, signal.SIGKILL)


def run_cell(trial: Trial, place: str, data: Path, out: Path) -> str:
    """Train unbroken (once per trial) and interrupted; resume; compare.

    Returns:
        What differs, or "".
    """
    last = RUNS[trial.run].stages[-1]
    whole, broken = out / trial.name / "whole", out / trial.name / place
    whole.parent.mkdir(parents=True, exist_ok=True)
    if not (whole / "done.json").exists():
        shutil.rmtree(whole, ignore_errors=True)
        codes = train_trial(trial, data, whole)
        if any(codes):
            return f"the unbroken run ended with {codes}"
    shutil.rmtree(broken, ignore_errors=True)
    codes = train_trial(trial, data, broken, interrupt=interrupt_of(trial, place))
    expected = KILLED if place == "boundary" else RESUMABLE
    if set(codes) != {expected}:
        return f"the interrupted run ended with {codes}"
    codes = train_trial(trial, data, broken, resume=True)
    if any(codes):
        return f"the resumed run ended with {codes}"
    return difference(whole / last, broken / last)


def run_grid(chosen: Iterable[tuple[Trial, str]], out: Path, jobs: int = 1) -> list[dict[str, Any]]:
    """Run cells that have no result yet in `out`, and return all results."""
    import_all()
    data = make_data(out / "data")
    todo, results = [], []
    by_trial: dict[Trial, list[str]] = {}
    for trial, place in chosen:
        by_trial.setdefault(trial, []).append(place)
        todo.append((trial, place))
    progress = Progress(len(todo), "cells")

    def run_trial(trial: Trial) -> None:
        for place in by_trial[trial]:
            path = out / f"{trial.name}_{place}.json"
            result = read_json(path)
            if result is None:
                start = time.monotonic()
                outcome = _outcome(trial, place, data, out)
                seconds = round(time.monotonic() - start, 1)
                result = {**vars(trial), "place": place, **outcome, "seconds": seconds}
                write_json(path, result)
            results.append(result)
            progress.update(len(results))
        if all(result["difference"] in ("", None) for result in results):
            shutil.rmtree(out / trial.name, ignore_errors=True)

    with ThreadPoolExecutor(jobs) as pool:
        list(pool.map(run_trial, by_trial))
    return results


def _outcome(trial: Trial, place: str, data: Path, out: Path) -> dict[str, Any]:
    if trial.bf16 and not bf16_supported("cpu"):
        return dict(difference=None, reason="this CPU has no bfloat16 arithmetic")
    return dict(difference=run_cell(trial, place, data, out))


def main(argv: list[str] | None = None) -> int:
    """Run the command line. Returns 1 where a cell differs."""
    parser = argparse.ArgumentParser(description="Interrupt, resume and compare trainings.")
    parser.add_argument("--out", type=Path, default=Path("work_dirs/resume_grid"))
    parser.add_argument("--record", type=Path, help="the JSON file to write")
    parser.add_argument("--runs", nargs="+", choices=RUNS, default=list(RUNS))
    parser.add_argument("--jobs", type=int, default=2, help="trainings at once")
    args = parser.parse_args(argv)
    args.out.mkdir(parents=True, exist_ok=True)
    chosen = [(trial, place) for trial, place in cells() if trial.run in args.runs]
    results = run_grid(chosen, args.out, args.jobs)
    differ = [r for r in results if r["difference"]]
    skipped = [r for r in results if r["difference"] is None]
    print(f"{len(results) - len(skipped)} cells, {len(differ)} differ, {len(skipped)} not run")
    for result in differ:
        print(f"  {result}")
    if args.record:
        command = "python tools/dev resume-grid"
        record = dict(kind="resume_grid", command=command, **environment(CHECKOUT), cells=results)
        write_json(args.record, record)
    return 1 if differ else 0


if __name__ == "__main__":
    sys.exit(main())
