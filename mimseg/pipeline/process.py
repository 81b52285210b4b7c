"""Starts a step's process in its folder, and explains its failure."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path

from mimseg.errors import UserError
from mimseg.files import tail
from mimseg.pipeline import keeper
from mimseg.pipeline.places import Places
from mimseg.pipeline.provenance import usable_cores
from mimseg.pipeline.step import Step, StepState


@dataclass
class Running:
    """A step under way."""

    step: Step
    state: StepState
    process: subprocess.Popen
    totals: dict[str, dict[str, float]]
    since: float = field(default_factory=time.monotonic)

    @property
    def elapsed(self) -> float:
        """Seconds of all attempts."""
        return self.state.content["seconds"] + time.monotonic() - self.since


def make_folder(state: StepState) -> None:
    """Make the step's folder, empty; only a folder that a pipeline has made is emptied."""
    folder = state.folder
    trash = folder.with_name(f".old-{folder.name}")  # so that a kill leaves no half-empty step
    try:
        shutil.rmtree(trash, ignore_errors=True)
        if folder.exists():
            visible = [path for path in folder.iterdir() if not path.name.startswith(".")]
            if visible and not state.path.exists():
                raise UserError(
                    "--work-dir",
                    str(folder),
                    expected="a folder that a benchmark made, or none",
                    fix="move it away or give another --work-dir",
                )
            folder.rename(trash)
            shutil.rmtree(trash)
        folder.mkdir(parents=True)
    except OSError as error:
        raise UserError(
            "--work-dir", str(folder), expected=f"writable ({error.strerror})"
        ) from error


def failure(run: Running, code: int, missing: list[str]) -> str:
    """The last lines of a failed step, its name, the reason, and its log."""
    what = f"exit code {code}"
    if missing:
        what = f"it ended well but did not write {', '.join(missing)}"
    elif code > 128:
        what += f", killed by signal {code - 128}"
        what += " (out of memory?)" if code - 128 == signal.SIGKILL else ""
    lines = tail(run.state.log).rpartition("\n$ ")[2]  # the last attempt's
    return f"{lines}\n\nstep {run.step.name} failed ({what}); its log: {run.state.log}"


def start(
    state: StepState, argv: list[str], places: Places, threads: int, lock: int | None
) -> subprocess.Popen:
    """Start a step's command; its output is appended to the step's log."""
    env = {**os.environ, "PYTHONUNBUFFERED": "1"}
    env |= {name: str(threads) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS")}
    if env.pop("PYTHONDONTWRITEBYTECODE", ""):  # each step would compile 4,000 modules again
        env.setdefault("PYTHONPYCACHEPREFIX", str(_bytecode(places)))
    with open(state.log, "ab") as log:
        log.write(f"$ {places.readable(argv)}\n".encode())
        log.flush()
        return keeper.start(argv, lock, cwd=places.root, env=env, stdout=log, stderr=log)


def discard_bytecode(places: Places) -> None:
    """Remove the compiled modules that steps left in the work dir."""
    shutil.rmtree(_bytecode(places), ignore_errors=True)


def _bytecode(places: Places) -> Path:
    return places.work_dir / ".bytecode"


def share_of_cores(workers: int) -> int:
    """Threads for each of `workers` steps at once."""
    return max(1, (usable_cores() or 1) // workers)
