"""Trains every method at small size, one step of a pipeline each; a killed run continues."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

from dev.methods.records import make_record, write_record
from dev.methods.run import RESULT, stage_steps
from mimseg.errors import UserError
from mimseg.pipeline.lock import WorkDirLock
from mimseg.pipeline.pipeline import Pipeline
from mimseg.pipeline.places import Places
from mimseg.pipeline.provenance import commit, machine
from mimseg.pipeline.step import Step, StepState
from mimseg.recipes.methods import Method, find_methods

SCENES = 2400  # enough that 150 steps of 32 see no image three times
KIND = "method"
_STOPPED = (None, 143)  # exit codes of a step that another one's failure ended


def train_all(
    root: Path,
    out: Path,
    records: Path,
    steps: int = 150,
    data: Path | None = None,
    seed: int = 0,
    workers: int | None = None,
    only: list[str] | None = None,
) -> int:
    """Train each method and write its record as it finishes.

    One that fails does not keep the others from finishing; run again, it is tried again.

    Args:
        root: the repository.
        out: work dir; scenes are drawn there unless `data` is given.
        records: folder of the JSON files.
        steps: optimizer steps a method, all its stages together.
        data: a folder of images.
        only: names of methods; None takes all.

    Returns:
        0, 1 where a method failed, 128 + n after signal n.

    Raises:
        UserError: an unknown method, or a folder that is missing or in use.
    """
    methods = {method.name: method for method in find_methods(root)}
    for name in only or ():
        if name not in methods:
            raise UserError("--methods", name, expected=f"some of {', '.join(methods)}")
    methods = {name: methods[name] for name in only or methods}
    if data is not None and not data.is_dir():
        raise UserError("--data", str(data), expected="an existing folder")
    places = Places(root, out.resolve(), None if data is None else data.resolve())
    workers = workers or min(2, os.cpu_count() or 1)

    def record(step: Step, state: StepState) -> None:
        if step.kind == KIND:
            write_record(records, make_record(methods[step.name], state))

    todo, failed = plan(root, places, methods, steps, seed), []
    facts = {"commit": commit(root), "machine": machine()}
    with WorkDirLock(places.work_dir) as lock:
        while True:
            pipeline = Pipeline(
                todo,
                places,
                workers=workers,
                estimates={KIND: steps * 0.5 + 20},
                on_finish=record,
                facts=facts,
                lock=lock.fd,
            )
            code = pipeline.run()
            broken = [step.name for step in todo if code == 1 and _failed(pipeline, step)]
            if not broken or "scenes" in broken:
                break
            failed += broken
            todo = [step for step in todo if step.name not in broken]
    if failed:
        print(f"failed: {', '.join(failed)}; their logs are under {out}", flush=True)
    return code or int(bool(failed))


def plan(
    root: Path, places: Places, methods: dict[str, Method], steps: int, seed: int
) -> list[Step]:
    """One step a method, after the scenes where no data is given."""
    found, needs, images = [], [], "{data_root}"
    if places.data_root is None:
        argv = ["{python}", "tools/data/make_scenes.py", "{work_dir}/scenes/data", "--size", "64"]
        argv += ["--unlabelled", str(SCENES), "--seed", str(seed), "--workers", "2"]
        found.append(Step("scenes", places.fill(argv), "scenes"))
        needs, images = ["scenes"], "{work_dir}/scenes/data/unlabelled"
    for name, method in methods.items():
        argv = ["{python}", "tools/dev", "method-run", method.path.as_posix()]
        argv += ["--work-dir", f"{{work_dir}}/{name}", "--data", images]
        argv += ["--steps", str(steps), "--seed", str(seed)]
        stages = len(method.load(root).get("stages") or [{}])
        step = Step(name, places.fill(argv), KIND, needs, config=method.path.as_posix())
        length = {"train_cfg.max_iters": stage_steps(steps, stages)[-1]}
        found.append(replace(step, options=length, outputs=[RESULT], resume=True))
    return found


def _failed(pipeline: Pipeline, step: Step) -> bool:
    state = pipeline.state(step)
    return (
        step.name not in pipeline.prints
        and bool(state.content)
        and (state.content.get("returncode") not in (*_STOPPED, 0))
    )
