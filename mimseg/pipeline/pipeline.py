"""Runs named steps, several at once if asked, and keeps what is finished."""

from __future__ import annotations

import shutil
import signal
import sys
import time
from collections.abc import Callable
from typing import Any, TextIO

from mimseg.errors import UserError
from mimseg.pipeline.places import Places
from mimseg.pipeline.process import (
    Running,
    discard_bytecode,
    failure,
    make_folder,
    share_of_cores,
    start,
)
from mimseg.pipeline.progress import Estimator, budget, duration, fraction, last_loss, tails
from mimseg.pipeline.step import (
    Step,
    StepState,
    config_digest,
    fingerprint_parts,
    load_config,
    what_changed,
)
from mimseg.progress import clock, progress_line

REFRESH = 20.0  # seconds between lines of progress (1 on a terminal) and calls of `on_change`
_STOPS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Pipeline:
    """Steps in the order of their needs, with their state in `<work_dir>/<step>/step.json`.

    A finished step whose fingerprint is unchanged is kept, an unfinished one continues (with
    `--resume` where it can), a changed one starts again in an empty folder, and so does what
    needs it. The first failure stops everything.

    Lines of progress say how many steps are finished, the share of all work, the time that is left,
    and for each running step its own share and its last loss.

    Args:
        steps: each after those it needs.
        places: the folders.
        workers: how many steps run at once; each gets its share of the cores.
        estimates: seconds by kind on two free cores; the pace of this machine corrects them.
        on_finish: called with a step and its state when it is finished or was kept.
        on_change: called with this pipeline after steps were kept, started or finished, and every
            20 seconds.
        facts: noted in each step's state: commit, machine.
        lock: file descriptor of the work dir's lock, handed to the children.
        out: where the status lines go.
    """

    def __init__(
        self,
        steps: list[Step],
        places: Places,
        workers: int = 1,
        estimates: dict[str, float] | None = None,
        on_finish: Callable[[Step, StepState], None] | None = None,
        on_change: Callable[[Pipeline], None] | None = None,
        facts: dict[str, Any] | None = None,
        lock: int | None = None,
        out: TextIO | None = None,
    ) -> None:
        self.steps, self.places, self.workers = steps, places, workers
        self.by_name = {step.name: step for step in steps}
        self.on_finish, self.on_change = on_finish, on_change
        self.facts, self.lock = facts or {}, lock
        self.out = out or sys.stdout
        self.live = self.out.isatty()
        self.refresh = 1.0 if self.live else REFRESH
        self.estimator = Estimator(estimates)
        self.prints: dict[str, str] = {}  # fingerprints of the finished steps
        self.running: dict[str, Running] = {}
        self.announced = False
        self.failure: str | None = None
        self.stopped_by = 0

    def run(self, poll: float = 0.2) -> int:
        """Run what is not finished. Returns 0, 1 after a failure, 128 + n after signal n."""
        before = {number: signal.signal(number, self._on_signal) for number in _STOPS}
        last_line, last_change, changed = time.monotonic(), 0.0, True
        try:
            while len(self.prints) < len(self.steps):
                if changed:
                    self._start_ready()
                if self.on_change and (changed or time.monotonic() - last_change > REFRESH):
                    self.on_change(self)
                    last_change = time.monotonic()
                if self.running and not self.failure:
                    youngest = min(run.elapsed for run in self.running.values())
                    time.sleep(min(poll, 0.02 + youngest / 10))
                changed = self._collect()
                if self.failure or self.stopped_by:
                    break
                if time.monotonic() - last_line > self.refresh and self.running:
                    self._say(self._line(", ".join(map(self._state, self.running))), passing=True)
                    last_line = time.monotonic()
        finally:
            self._stop_running()
            for number, handler in before.items():
                signal.signal(number, handler)
        if self.failure:
            self._say(self.failure)
            return 1
        if self.stopped_by:
            self._say("stopped; the same command continues from here")
            return 128 + self.stopped_by
        discard_bytecode(self.places)
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
        """Steps that may start now: urgent ones, then the start of the longest chain."""
        waiting = [
            s for s in self.steps if s.name not in self.prints and s.name not in self.running
        ]
        free = [s for s in waiting if all(n in self.prints for n in [*s.needs, *s.after])]
        seconds = {step.name: self.estimator.seconds(step.kind) for step in self.steps}
        length = tails(self.steps, seconds)
        return sorted(free, key=lambda step: (not step.urgent, -length[step.name]))

    def eta(self) -> float:
        """Seconds until the end: the work left over the workers, or the longest chain."""
        left = self._left()
        return max(sum(left.values()) / self.workers, *tails(self.steps, left).values(), 0.0)

    def share(self) -> float:
        """The share of all work that is done, in [0, 1]."""
        left = sum(self._left().values())
        done = sum(self.estimator.seconds(self.by_name[name].kind) for name in self.prints)
        done += sum(run.elapsed for run in self.running.values())
        return done / (done + left) if done else 0.0

    def _left(self) -> dict[str, float]:
        """Seconds that each step still needs."""
        shares = {n: fraction(run.state.folder, run.totals) for n, run in self.running.items()}
        for name, run in self.running.items():
            self.estimator.project(run.step.kind, run.elapsed, shares[name])
        left = {step.name: self.estimator.seconds(step.kind) for step in self.steps}
        left |= {name: 0.0 for name in self.prints}
        for name, run in self.running.items():
            left[name] = self.estimator.left(run.step.kind, run.elapsed, shares[name])
        return left

    def _start_ready(self) -> None:
        config_digest.cache_clear()  # a config edited meanwhile counts as it is now
        load_config.cache_clear()
        count, again, name = 0, True, ""
        try:
            while again:  # a kept step may free others, which may be finished as well
                again = False
                ready = {}
                for name in [step.name for step in self.ready()]:
                    ready[name] = self.inspect(self.by_name[name])
                for name, (verdict, _, _) in ready.items():
                    if verdict == "finished":
                        self.keep(self.by_name[name])
                        count, again = count + 1, True
            if count:
                steps = "1 finished step" if count == 1 else f"{count} finished steps"
                self._say(f"[{len(self.prints)}/{len(self.steps)}] kept {steps}")
            if ready and not self.announced:
                self.announced = True
                self._say(
                    f"about {duration(self.eta())} left on free cores; the estimate follows the "
                    "pace of this machine"
                )
            for name, todo in ready.items():
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
            step, state, process, budget(step, self.places) if step.resume else {}
        )
        what = "resumed" if verdict == "unfinished" else "started"
        self._say(self._line(f"{step.name} {what}"))

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
            result = run.step.result(run.state.folder) if run.step.result else ""
            text = f"{name} finished in {clock(run.state.seconds)}"
            self._say(self._line(f"{text} ({result})" if result else text))
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

    def _state(self, name: str) -> str:
        """How far a running step is, in a few words."""
        run = self.running[name]
        share, loss = fraction(run.state.folder, run.totals), last_loss(run.state.folder)
        words = [f"{share:.0%}" if share else clock(run.elapsed)]
        words += [] if loss is None else [f"loss {loss:.3g}"]
        return f"{name} ({', '.join(words)})"

    def _line(self, text: str) -> str:
        finished, every = len(self.prints), len(self.steps)
        left = self.eta() if finished < every else None
        return progress_line(f"{self.share():.0%}: {text}", left, finished, every)

    def _say(self, line: str, passing: bool = False) -> None:
        """Print a line; on a terminal, a passing one is overwritten by the next."""
        if self.live:
            if passing:
                line = line[: shutil.get_terminal_size().columns - 1]
            self.out.write(f"\r\033[K{line}" + ("" if passing else "\n"))
        else:
            self.out.write(line + "\n")
        self.out.flush()
