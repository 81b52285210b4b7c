"""Breaks trainings in many ways, resumes them and compares.

    python tools/dev faults --out work_dirs/faults --record docs/results/trust/faults.json

After each event the run is resumed. It is lost unless it continues from the newest whole
checkpoint, as `dev.faults.wreck` reckons it, and ends with the weights, optimizer, schedules, logs
and metrics of the unbroken run, bit for bit. The list of events depends on the seed alone. Events
that are done are not repeated.
"""

from __future__ import annotations

import argparse
import multiprocessing
import shlex
import shutil
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

from dev.faults.case import Case, Event, Lost, Missed, train_whole
from dev.faults.kinds import FAULT_RUNS, KINDS
from dev.trial import Trial, import_all, make_data
from mimseg.errors import exit_code, require_positive
from mimseg.files import read_json, write_json
from mimseg.pipeline.provenance import environment
from mimseg.progress import Progress
from mimseg.recipes.configs import CHECKOUT

KIND = "faults"


def events(seed: int = 0, count: int | None = None) -> list[Event]:
    """The list for a seed: each variant of each kind for each run, in rounds of random order.

    Args:
        seed: of the order, and of all that is drawn in the events.
        count: how many; None for one round.
    """
    slots = [
        (name, variant, run)
        for name, kind in KINDS.items()
        for variant, settings in kind.variants.items()
        for run in settings.get("runs", kind.runs)
    ]
    random, chosen = Random(seed), []
    while not chosen or (count and len(chosen) < count):
        chosen += random.sample(slots, len(slots))
    return [Event(number, *slot, seed) for number, slot in enumerate(chosen[:count], 1)]


def try_event(event: Event, data: Path, out: Path) -> dict[str, Any]:
    """Let an event happen, unless its result is there; the folder stays where the run is lost.

    Returns:
        The event, what was struck, where the run continued, what was lost ("" for nothing), why it
        did not happen ("" if it did), and the seconds.
    """
    path = out / f"{event.name}.json"
    if (result := read_json(path)) is not None:
        return result
    begin, lost, missed = time.monotonic(), "", ""
    case, kind = Case(event, data, out), KINDS[event.kind]
    case.trial = replace(case.trial, **kind.trial)
    try:
        kind.happen(case, **kind.variants[event.variant])
        if not case.finished:
            case.finish()
    except Lost as error:
        lost = str(error)
    except Missed as error:
        missed = str(error)
    result = {
        **vars(event),
        "places": case.places,
        "resumed": case.resumed,
        "lost": lost,
        "missed": missed,
        "seconds": round(time.monotonic() - begin, 1),
    }
    write_json(path, result)
    if not lost:
        shutil.rmtree(case.folder, ignore_errors=True)
    return result


def try_events(chosen: Sequence[Event], out: Path, jobs: int = 1) -> list[dict[str, Any]]:
    """Let events happen, several at a time, in new processes. Returns their results in order."""
    import_all()
    data = make_data(out / "data")
    context = multiprocessing.get_context("fork")
    progress, results = Progress(len(chosen), "events"), {}
    with ProcessPoolExecutor(jobs, context) as pool:
        trials = {Trial(event.run, **KINDS[event.kind].trial) for event in chosen}
        list(pool.map(train_whole, trials, [data] * len(trials), [out] * len(trials)))
        tried = {pool.submit(try_event, event, data, out): event for event in chosen}
        try:
            for future in as_completed(tried):
                result = results[tried[future]] = future.result()
                progress.update(len(results))
                if result["lost"]:
                    print(f"{tried[future].name}: {result['lost']}", flush=True)
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    return [results[event] for event in chosen]


def make_record(results: Sequence[dict[str, Any]], seed: int, options: str) -> dict[str, Any]:
    """What stands in the results: each kind's numbers, and a line for each event."""
    kinds = []
    for name in KINDS:
        rows = [result for result in results if result["kind"] == name]
        happened = [row for row in rows if not row["missed"]]
        kinds.append(
            dict(
                kind=name,
                events=len(happened),
                runs=sorted({row["run"] for row in happened}),
                lost=sum(bool(row["lost"]) for row in happened),
                seconds=round(sum(row["seconds"] for row in rows)),
            )
        )
    return dict(
        kind=KIND,
        command=f"python tools/dev faults {options}",
        seed=seed,
        **environment(CHECKOUT),
        kinds=kinds,
        events=[_line(result) for result in results],
    )


def _line(result: dict[str, Any]) -> str:
    words = [f"{result['number']:03} {result['run']}, {result['kind']}: {result['variant']}"]
    words.append("; ".join(result["places"]))
    if result["resumed"]:
        words.append(f"continued at {', '.join(result['resumed'])}")
    for key in ("lost", "missed"):
        words += [f"{key.upper()}: {result[key]}"] if result[key] else []
    return " | ".join(words)


def main(argv: list[str] | None = None) -> int:
    """Run the command line. Returns 1 where a run was lost."""
    parser = argparse.ArgumentParser(description="Break trainings, resume and compare them.")
    add = parser.add_argument
    add("--out", type=Path, default=Path("work_dirs/faults"), help="runs and results")
    add("--record", type=Path, help="the JSON file to write")
    add("--events", type=int, help="how many (each variant of each kind for each run, once)")
    add("--seed", type=int, default=0)
    add("--jobs", type=int, default=2, help="trainings at once")
    add("--kinds", nargs="+", choices=KINDS, default=list(KINDS))
    add("--runs", nargs="+", choices=FAULT_RUNS, default=list(FAULT_RUNS))
    args = parser.parse_args(argv)
    return exit_code(lambda: _run(args), "stopped; the same command continues")


def _run(args: argparse.Namespace) -> int:
    if args.events is not None:
        require_positive("--events", args.events)
    chosen = [
        event
        for event in events(args.seed, args.events)
        if event.kind in args.kinds and event.run in args.runs
    ]
    args.out.mkdir(parents=True, exist_ok=True)
    results = try_events(chosen, args.out.resolve(), args.jobs)
    lost = [result for result in results if result["lost"]]
    missed = [result for result in results if result["missed"]]
    for result in [*lost, *missed]:
        print(_line(result))
    happened = len(results) - len(missed)
    print(f"{happened} events, {len(lost)} runs lost, {len(missed)} events that did not happen")
    if args.record:
        options = {"events": args.events, "seed": args.seed}
        for key, every in (("kinds", list(KINDS)), ("runs", list(FAULT_RUNS))):
            chosen = getattr(args, key)
            options[key] = None if chosen == every else shlex.join(chosen)
        words = " ".join(f"--{key} {value}" for key, value in options.items() if value is not None)
        write_json(args.record, make_record(results, args.seed, words))
    return 1 if lost else 0
