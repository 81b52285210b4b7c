"""Runs named steps, several at once if asked; what is finished stays finished."""

from __future__ import annotations

import shutil
import signal
import sys
import time
from collections.abc import Callable
from typing import Any, TextIO

from mimseg.errors import UserError
from mimseg.pipeline.places import Places
from mimseg.pipeline.process import Running, failure, make_folder, share_of_cores, start
from mimseg.pipeline.progress import Estimator, budget, fraction, tails
from mimseg.pipeline.step import (
    Step,
    StepState,
    config_digest,
    fingerprint_parts,
    load_config,
    what_changed,
)
from mimseg.progress import clock, progress_line

_STOPS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Pipeline:
    """Steps in the order of their needs, with their state in `<work_dir>/<step>/step.json`.

    A finished step whose fingerprint is unchanged is kept, an unfinished one goes on (with
    `--resume` where it can), a changed one starts again in an empty folder, and so does what
    needs it. The first failure stops everything.

    Args:
        steps: each after those it needs.
        places: the folders.
        workers: how many steps run at once; each gets its share of the cores.
        estimates: seconds by kind, the first guess of the ETA.
        on_finish: called with a step and its state when it is finished or was kept.
        facts: noted in each step's state: commit, machine.
        lock: file descriptor of the work dir's lock, handed to the children.
        out: where the status lines go.
        refresh: seconds between status lines where nothing changes.
    """

    def __init__(
        self,
        steps: list[Step],
        places: Places,
        workers: int = 1,
        estimates: dict[str, float] | None = None,
        on_finish: Callable[[Step, StepState], None] | None = None,
        facts: dict[str, Any] | None = None,
        lock: int | None = None,
        out: TextIO | None = None,
        refresh: float = 30.0,
    ) -> None:
        self.steps, self.places, self.workers = steps, places, workers
        self.by_name = {step.name: step for step in steps}
        self.on_finish, self.facts, self.lock = on_finish, facts or {}, lock
        self.out = out or sys.stdout
        self.live = self.out.isatty()
        self.refresh = 1.0 if self.live else refresh
        self.estimator = Estimator(estimates)
        self.prints: dict[str, str] = {}  # fingerprints of the finished steps
        self.running: dict[str, Running] = {}
        self.failure: str | None = None
        self.stopped_by = 0

    def run(self, poll: float = 0.2) -> int:
        """Run what is not finished. Returns 0, 1 after a failure, 128 + n after signal n."""
        before = {number: signal.signal(number, self._on_signal) for number in _STOPS}
        shown = time.monotonic()
        try:
            changed = True
            while len(self.prints) < len(self.steps):
                if changed:
                    self._start_ready()
                if self.running and not self.failure:
                    youngest = min(run.elapsed for run in self.running.values())
                    time.sleep(min(poll, 0.02 + youngest / 10))
                changed = self._collect()
                if self.failure or self.stopped_by:
                    break
                if time.monotonic() - shown > self.refresh and self.running:
                    self._status()
                    shown = time.monotonic()
        finally:
            self._stop_running()
            for number, handler in before.items():
                signal.signal(number, handler)
        if self.failure:
            self._say(self.failure)
            return 1
        if self.stopped_by:
            self._say("stopped; the same command goes on from here")
            return 128 + self.stopped_by
        return 0

    def inspect(self, step: Step) -> tuple[str, list[str], dict[str, Any]]:
        """What to do with a step whose needs are finished: (verdict, command, parts).

        The verdict is 'finished', 'new', 'unfinished', or the reason why it has to start again.
        """
        argv, needs = step.resolve()
        needed = {name: self.prints[name] for name in needs}
        parts = fingerprint_parts(step, argv, needed, self.places)
        state = self.state(step)
        if not state.content:
            return "new", argv, parts
        if state.content.get("parts") != parts:
            return what_changed(state.content.get("parts", {}), parts, step.config), argv, parts
        if not state.finished:
            return "unfinished", argv, parts
        missing = state.missing(step.outputs)
        return (f"{missing[0]} is gone" if missing else "finished"), argv, parts

    def state(self, step: Step) -> StepState:
        """The step's state as it is on the disk."""
        return StepState(self.places.work_dir / step.name)

    def keep(self, step: Step) -> None:
        """Count a step as finished."""
        state = self.state(step)
        self.prints[step.name] = str(state.fingerprint)
        self.estimator.add(step.kind, state.seconds)
        if self.on_finish:
            self.on_finish(step, state)

    def ready(self) -> list[Step]:
        """Steps that may start now, the start of the longest chain first."""
        waiting = [
            s for s in self.steps if s.name not in self.prints and s.name not in self.running
        ]
        free = [s for s in waiting if all(n in self.prints for n in [*s.needs, *s.after])]
        seconds = {step.name: self.estimator.seconds(step.kind) for step in self.steps}
        length = tails(self.steps, seconds)
        return sorted(free, key=lambda step: -length[step.name])

    def eta(self) -> float:
        """Seconds until the end: the work left over the workers, or the longest chain."""
        left = {step.name: self.estimator.seconds(step.kind) for step in self.steps}
        left |= {name: 0.0 for name in self.prints}
        for name, run in self.running.items():
            share = fraction(run.state.folder, run.totals)
            left[name] = self.estimator.left(run.step.kind, run.elapsed, share)
        return max(sum(left.values()) / self.workers, *tails(self.steps, left).values(), 0.0)

    def _start_ready(self) -> None:
        config_digest.cache_clear()  # a config edited meanwhile counts as it is now
        load_config.cache_clear()
        kept, looked, name = 0, True, ""
        try:
            while looked:  # a kept step may free others, which may be finished as well
                looked = False
                found = {}
                for name in [step.name for step in self.ready()]:
                    found[name] = self.inspect(self.by_name[name])
                for name, (verdict, _, _) in found.items():
                    if verdict == "finished":
                        self.keep(self.by_name[name])
                        kept, looked = kept + 1, True
            if kept:
                steps = "1 finished step" if kept == 1 else f"{kept} finished steps"
                self._say(f"[{len(self.prints)}/{len(self.steps)}] kept {steps}")
            for name, todo in found.items():
                if len(self.running) < self.workers and not self.stopped_by:
                    self._start(self.by_name[name], *todo)
        except UserError as error:
            self.failure = f"step {name} cannot start: {error}"

    def _start(self, step: Step, verdict: str, argv: list[str], parts: dict[str, Any]) -> None:
        state = self.state(step)
        if verdict not in ("new", "unfinished"):
            self._say(f"{step.name} runs again: {verdict}")
        if verdict != "unfinished":
            make_folder(state)
            state = self.state(step)
        state.begin(parts, self.places.readable(argv), {**step.facts, **self.facts})
        if verdict == "unfinished" and step.resume:
            argv = [*argv, "--resume"]
        process = start(state, argv, self.places, share_of_cores(self.workers), self.lock)
        self.running[step.name] = Running(
            step, state, process, budget(step, self.places.root) if step.resume else {}
        )
        self._say(self._line(step.name, "resumed" if verdict == "unfinished" else "started"))

    def _collect(self) -> bool:
        ended = False
        for name, run in list(self.running.items()):
            code = run.process.poll()
            if code is None:
                continue
            ended = True
            del self.running[name]
            missing = run.state.missing(run.step.outputs) if code == 0 else []
            run.state.end(1 if missing else code)
            if code or missing:
                if self.failure is None:
                    self.failure = failure(run, code, missing)
                continue
            self.keep(run.step)
            self._say(self._line(name, f"finished in {clock(run.state.seconds)}"))
        return ended

    def _stop_running(self) -> None:
        for run in self.running.values():
            run.process.terminate()
        for run in self.running.values():
            run.process.wait()
            run.state.end(128 + signal.SIGTERM)
        self.running.clear()

    def _on_signal(self, number: int, frame: Any) -> None:
        self.stopped_by = number

    def _status(self) -> None:
        names = sorted(self.running, key=lambda name: self.running[name].since)
        oldest = self.running[names[0]]
        line = self._line(", ".join(names), f"running, {clock(oldest.elapsed)} elapsed")
        self._say(line, passing=True)

    def _line(self, name: str, what: str) -> str:
        done, total = len(self.prints), len(self.steps)
        return progress_line(f"{name} {what}", self.eta() if done < total else None, done, total)

    def _say(self, line: str, passing: bool = False) -> None:
        """Print a line; on a terminal, a passing one is overwritten by the next."""
        if self.live:
            if passing:
                line = line[: shutil.get_terminal_size().columns - 1]
            self.out.write(f"\r\033[K{line}" + ("" if passing else "\n"))
        else:
            self.out.write(line + "\n")
        self.out.flush()
