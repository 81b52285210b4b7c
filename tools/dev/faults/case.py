"""Tries an event: a run that something happens to, and that is resumed."""

from __future__ import annotations

import shutil
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

from dev.faults import wreck
from dev.trial import RUNS, Interrupt, Launch, Trial, difference, launch_trial
from mimseg.engine.signals import RESUMABLE
from mimseg.files import read_json, write_json

INTERVAL = 6  # steps between the checkpoints of a run's schedule
KILLED, MISTAKE = -signal.SIGKILL, 2


class Lost(Exception):
    """What a run has lost, or did that it must not do."""


class Missed(Exception):
    """Why a run could not be struck."""


@dataclass(frozen=True)
class Event:
    """Something that happens to a run.

    Args:
        number: its place in the list.
        kind: of `dev.faults.kinds.KINDS`.
        variant: of that kind.
        run: of `dev.trial.RUNS`.
        seed: of all that is drawn for it.
    """

    number: int
    kind: str
    variant: str
    run: str
    seed: int

    @property
    def name(self) -> str:
        """A folder's name."""
        words = f"{self.number:03} {self.kind} {self.variant} {self.run}"
        return "_".join(words.replace(",", "").split())


class Case:
    """An event that is being tried.

    Attributes:
        trial: how the run computes.
        late: steps by which a checkpoint may be in place after its step.
        work_dir: of the run.
        options: settings of each start.
        damaged: files that do not count at the next start.
        places: what was struck, in words.
        resumed: where the starts continued.
        finished: whether the run was resumed to its end and compared.
    """

    def __init__(self, event: Event, data: Path, out: Path) -> None:
        self.data, self.out = data, out
        self.random = Random(f"{event.seed} {event.name}")
        self.run, self.trial = RUNS[event.run], Trial(event.run)
        self.folder = out / event.name
        self.options: dict[str, Any] = {}
        self.late = 0
        self.damaged: set[Path] = set()
        self.places: list[str] = []
        self.begin()

    def begin(self) -> None:
        """Begin with nothing."""
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        self.work_dir = self.folder / "run"
        self.starts, self.resumed, self.finished = 0, [], False

    @property
    def whole(self) -> Path:
        """The unbroken run's folder."""
        return whole_folder(self.trial, self.out)

    @property
    def facts(self) -> dict[str, Any]:
        """Of the unbroken run: its seconds, operations on files, and bytes of a checkpoint."""
        return read_json(self.whole / "whole.json")

    @property
    def stages(self) -> list[Path]:
        """The folders with checkpoints."""
        return [self.work_dir / stage for stage in self.run.stages]

    @property
    def log(self) -> Path:
        """What the last start printed."""
        return self.folder / f"start{self.starts}.log"

    def start(self, before: Callable[[], None] | None = None, **how: Any) -> Launch:
        """Start the run, or resume it.

        Args:
            before: called in the training's process before it begins.
            how: see `launch_trial`.
        """
        resume, self.starts = self.starts > 0, self.starts + 1
        self.expected = wreck.reckon(self.work_dir, self.run.stages, self.damaged)
        how |= dict(options=self.options, log=self.log, before=before)
        return launch_trial(self.trial, self.data, self.work_dir, resume, **how)

    def end(self, launch: Launch, *codes: int) -> int:
        """Wait for the end of a start.

        Args:
            launch: the start.
            codes: exit codes that may come, which the processes share.

        Raises:
            Lost: it continued elsewhere than it had to, ended in another way, or left processes.
        """
        ended = launch.wait(240)
        text = self.log.read_text(errors="replace")
        lines = [line for line in text.splitlines() if line.strip()]
        if not set(ended) <= set(codes):
            raise Lost(f"start {self.starts} ended with {ended}: {lines[-1:]}")
        if MISTAKE in ended and "Traceback" in text:
            raise Lost(f"start {self.starts} ended with a traceback")
        if self.starts > 1 and MISTAKE not in ended:
            place = wreck.resumed_at(text)
            if place != self.expected and (place or 0 in ended):
                raise Lost(f"start {self.starts} continued at {place}, not at {self.expected}")
            self.resumed += [place] if place else []
        if launch.left():
            raise Lost(f"start {self.starts} left processes running")
        self.damaged = set()
        return ended[0]

    def require_saved(self) -> None:
        """See that nothing is gone but what came after the last checkpoint that was due.

        Raises:
            Lost: more is.
        """
        each = "default_hooks.checkpoint.save_minutes" in self.options
        for folder in self.stages:
            logged, saved = wreck.steps_logged(folder), wreck.steps_saved(folder)
            if logged - max(saved, default=0) > self.late + (1 if each else INTERVAL):
                raise Lost(f"step {logged} was logged, steps {list(saved)} are saved")

    def send(self, launch: Launch, after: float, number: int, rank: int | None = None) -> bool:
        """Send a signal when that many seconds have passed; False if the run ended before."""
        end = time.monotonic() + after
        while (running := launch.running()) and time.monotonic() < end:
            time.sleep(0.002)
        if running:
            launch.send(number, rank)
            self.places.append(f"at {after:.2f} s")
        return bool(running)

    def strike(self, before: Callable[[], None], *codes: int, **how: Any) -> None:
        """Start the run with something that strikes it.

        Raises:
            Missed: it ended as if nothing had happened.
        """
        if self.end(self.start(before, **how), 0, *codes) == 0:
            raise Missed(f"{self.places} did not come")
        self.require_saved()

    def interrupt(self) -> None:
        """Stop the run with SIGTERM after a checkpoint of its schedule in one of its stages."""
        stage = self.random.choice(self.run.stages)
        step = self.random.randrange(INTERVAL + 1, 2 * INTERVAL)
        self.end(self.start(interrupt=Interrupt(stage, step, signal.SIGTERM)), RESUMABLE)
        self.places.append(" ".join(filter(None, (stage, f"step {step}"))))

    def finish(self) -> None:
        """Resume the run to its end and compare it.

        Raises:
            Lost: it differs from the unbroken one.
        """
        self.finished = True
        self.end(self.start(), 0)
        last = self.run.stages[-1]
        if differs := difference(self.whole / last, self.work_dir / last):
            raise Lost(f"differs from the unbroken run: {differs}")
        if read_json(self.work_dir / "done.json") is None:
            raise Lost("done.json is not there")
        if left := [path.name for path in self.work_dir.rglob(".*")]:
            raise Lost(f"temporary files are left: {left}")


def whole_folder(trial: Trial, out: Path) -> Path:
    """Where the unbroken run is. The number of loader workers makes no difference."""
    return out / "whole" / Trial(trial.run, trial.processes, fsdp=trial.fsdp).name


def train_whole(trial: Trial, data: Path, out: Path) -> None:
    """Train without any event, once; note how long it takes and what it does with files.

    Raises:
        RuntimeError: it fails.
    """
    from dev.faults.strike import trace

    folder = whole_folder(trial, out)
    if (folder / "whole.json").exists():
        return
    shutil.rmtree(folder, ignore_errors=True)
    folder.parent.mkdir(parents=True, exist_ok=True)
    operations = folder.with_suffix(".operations")
    operations.unlink(missing_ok=True)
    begin = time.monotonic()
    codes = launch_trial(trial, data, folder, before=lambda: trace(folder, operations)).wait()
    if any(codes):
        raise RuntimeError(f"the unbroken {trial.name} ended with {codes}")
    facts = dict(
        seconds=round(time.monotonic() - begin, 2),
        operations=len(operations.read_text().splitlines()),
        bytes=max(path.stat().st_size for path in folder.rglob("*.pth")),
    )
    write_json(folder / "whole.json", facts)
