"""Lists what can happen to a run."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

from dev.faults import wreck
from dev.faults.case import INTERVAL, KILLED, MISTAKE, Case, Lost, Missed
from dev.faults.strike import Moment, at, kill_group, limit_files, refuse_writes, send
from dev.trial import Interrupt
from mimseg.engine.signals import RESUMABLE

FAULT_RUNS = ("mae", "dbot", "upernet", "mask-rcnn")
DENSE = ("upernet", "mask-rcnn")
STOPS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)
INTERRUPTED = 130
RANK_SECONDS = 60  # within which a rank ends when another one has died

FILE = rf"/{wreck.CHECKPOINT}$"
SAVING = rf"/\.{wreck.CHECKPOINT}\.saving$"
SUM = rf"/{wreck.CHECKPOINT}\.sha256$"
EACH_STEP = {"default_hooks.checkpoint.save_minutes": 1e-6}
BACKGROUND = {"default_hooks.checkpoint.asynchronous": True}
KEEP_ONE = {"default_hooks.checkpoint.max_keep_ckpts": 1}
BEST = {"default_hooks.checkpoint.save_best": "auto"}


@dataclass(frozen=True)
class Kind:
    """A kind of events.

    Args:
        happen: lets it happen to a case; then the case is finished.
        variants: name -> the function's settings.
        runs: whom it can happen to; of a variant alone, its setting `runs`.
        trial: how those compute, as far as it is not the usual way.
    """

    happen: Callable[..., None]
    variants: Mapping[str, dict[str, Any]]
    runs: tuple[str, ...] = FAULT_RUNS
    trial: Mapping[str, Any] = field(default_factory=dict)


KINDS: dict[str, Kind] = {}


def kind(
    variants: Mapping[str, dict[str, Any]], runs: tuple[str, ...] = FAULT_RUNS, **trial: Any
) -> Callable:
    """Add a function to the kinds, under its name."""

    def add(happen: Callable[..., None]) -> Callable[..., None]:
        KINDS[happen.__name__.replace("_json", ".json").replace("_", " ")] = Kind(
            happen, variants, runs, trial
        )
        return happen

    return add


def _at_random(case: Case, number: int, share: float = 1.0, rank: int | None = None) -> Any:
    """Start the run and send a signal at a random moment; None if it ended before."""
    launch = case.start()
    after = case.random.random() * share * case.facts["seconds"]
    return launch if case.send(launch, after, number, rank) else case.end(launch, 0) or None


def _first_at_random(case: Case, number: int, rank: int | None = None) -> Any:
    """As `_at_random`; where the run ended before, from the beginning with less time."""
    for share in (1.0, 0.8, 0.6, 0.4):
        launch = _at_random(case, number, share, rank)
        if launch is not None:
            return launch
        case.begin()
    raise Missed("it ended too soon")


@kind(
    {
        f"{kills}, {workers} workers{', saving at each step' if each else ''}": dict(
            kills=kills, workers=workers, options=EACH_STEP if each else {}
        )
        for kills in (1, 2, 4)
        for workers in (0, 2)
        for each in (False, True)
    }
)
def kills_at_random(case: Case, kills: int, workers: int, options: dict) -> None:
    """SIGKILL to the whole group, several times before the run may end."""
    case.trial, case.options = replace(case.trial, workers=workers), options
    for number in range(kills):
        launch = _at_random(case, signal.SIGKILL, 0.7) if number else _first_at_random(case, 9)
        if launch is None:
            return
        if case.end(launch, KILLED, 0) == 0:  # the signal came while it was ending
            if not number:
                raise Missed("it ended too soon")
            return
        case.require_saved()


def _moments() -> dict[str, dict[str, Any]]:
    """Name -> a moment, how many of its like there are (per stage), settings, runs."""
    around = {"before": False, "after": True}
    moments: dict[str, dict[str, Any]] = {
        "before the bytes": dict(moment=Moment("write", SAVING), times=2),
        "between bytes and fsync": dict(moment=Moment("open", SAVING), times=2),
        "between rename and pointer": dict(moment=Moment("write", r"/\.last_checkpoint"), times=2),
        "before the pruning": dict(moment=Moment("os.remove", FILE), options=KEEP_ONE),
        "after the pruning": dict(moment=Moment("os.remove", FILE, after=True), options=KEEP_ONE),
        "while writing the checksum": dict(moment=Moment("write", r"\.sha256\.saving$"), times=2),
        "in the first step of stage 2": dict(
            moment=Moment("mmengine.optim.OptimWrapper.update_params", nth=13), runs=("dbot",)
        ),
        "before stage 2": dict(moment=Moment("os.mkdir", r"/stage2$"), runs=("dbot",)),
        "in a validation": dict(moment=Moment("read", r"images/validation/"), times=16, runs=DENSE),
        "before the data are listed": dict(
            moment=Moment("os.scandir", r"(unlabelled|training)"), runs=("mae", "upernet")
        ),
        "reading the annotations": dict(
            moment=Moment("read", r"instances_train"), runs=("mask-rcnn",)
        ),
        "while the data's index is packed": dict(
            moment=Moment("mmengine.dataset.BaseDataset._serialize_data")
        ),
    }
    for word, after in around.items():
        renamed = {
            "rename": dict(path=FILE, times=2),
            "rename of the checksum": dict(path=SUM, times=2),
            "pointer": dict(path="/last_checkpoint$", times=2),
            "rename of done.json": dict(path="/done.json$"),
            "rename at a save by the clock": dict(
                path=r"/step_\d+\.pth$", times=9, options=EACH_STEP
            ),
            "rename of the best": dict(path=r"/best_.*pth$", options=BEST, runs=DENSE),
        }
        for name, settings in renamed.items():
            moment = Moment("os.rename", settings.pop("path"), after=after)
            moments[f"{word} the {name}"] = dict(moment=moment, **settings)
    return moments


@kind(_moments())
def kill_at(
    case: Case, moment: Moment, times: int = 1, options: dict | None = None, runs: tuple = ()
) -> None:
    """SIGKILL to the whole group at a chosen moment."""
    case.options = options or {}
    _kill_at(case, replace(moment, nth=moment.nth + case.random.randrange(times)))


def _kill_at(case: Case, moment: Moment, **how: Any) -> None:
    case.places.append(str(moment))
    case.strike(lambda: at(moment, kill_group), KILLED, **how)


@kind({"before the rename": dict(after=False), "after the rename": dict(after=True)})
def kill_while_stopping(case: Case, after: bool) -> None:
    """SIGKILL while a run that a signal stops writes of it."""
    interrupt = Interrupt(case.run.stages[-1], 8, signal.SIGTERM)
    _kill_at(case, Moment("os.rename", "/stopped.json$", after=after), interrupt=interrupt)


@kind({str(number): {} for number in range(1, 7)})
def kill_at_any_operation(case: Case) -> None:
    """SIGKILL before any one of the operations on the work dir's files."""
    nth = case.random.randrange(1, case.facts["operations"])
    _kill_at(case, Moment("", _below(case), nth))


@kind({str(number): {} for number in range(1, 5)})
def kill_while_writing_in_the_background(case: Case) -> None:
    """SIGKILL before any one of the operations on a checkpoint that a thread writes."""
    _strike_background(case)


@kind({str(number): {} for number in range(1, 5)}, processes=2, fsdp=True)
def kill_while_writing_in_parts(case: Case) -> None:
    """The same, where each of two processes writes its own part."""
    _strike_background(case)


def _strike_background(case: Case) -> None:
    case.options, case.late = BACKGROUND | EACH_STEP, INTERVAL
    path = _below(case) + r".*(step|epoch|iter)_\d+\."
    _kill_at(case, Moment("", path, case.random.randrange(1, 40)))


def _below(case: Case) -> str:
    """The pattern of a path in the work dir."""
    return "/".join(map(re.escape, ("", *case.work_dir.parts[-2:], "")))


@kind({str(number): {} for number in range(1, 5)})
def kill_in_a_write(case: Case) -> None:
    """The system ends the process when a certain number of a checkpoint's bytes are written."""
    moment = Moment("write", SAVING, case.random.randrange(1, 3))
    size = case.random.randrange(100_000, case.facts["bytes"])
    case.places.append(f"{moment}, byte {size}")
    case.strike(lambda: at(moment, limit_files(size, fatal=True)), -signal.SIGXFSZ)


@kind(
    {
        f"{number.name}, {workers} workers": dict(number=number, workers=workers)
        for number in STOPS
        for workers in (0, 2)
    }
)
def stop(case: Case, number: signal.Signals, workers: int) -> None:
    """A signal at a random moment: the run saves and stops, unless it has yet to begin, or ends."""
    case.trial = replace(case.trial, workers=workers)
    code = case.end(_first_at_random(case, number), 0, RESUMABLE, -number, INTERRUPTED)
    case.places[-1] += f", code {code}"
    case.require_saved()
    if code == RESUMABLE:
        last = [folder for folder in case.stages if (folder / "stopped.json").exists()][-1]
        saved = max(wreck.steps_saved(last), default=0)
        if saved != wreck.steps_logged(last):
            raise Lost(f"stopped after step {wreck.steps_logged(last)}, saved step {saved}")


@kind({number.name: dict(number=number) for number in STOPS})
def stop_twice(case: Case, number: signal.Signals) -> None:
    """A second signal while the first one's checkpoint is saved."""
    interrupt = Interrupt(case.random.choice(case.run.stages), 8, signal.SIGTERM)
    operation = case.random.choice(("write", "open", "os.rename"))
    moment = Moment(operation, r"/\.?step_8\.pth(\.saving)?$")
    case.places.append(str(moment))
    strike = lambda: at(moment, send(number))  # noqa: E731
    case.strike(strike, -number, INTERRUPTED, interrupt=interrupt)


@kind({"file too large": {}, "file too large, saving at each step": dict(options=EACH_STEP)})
def full_disk(case: Case, options: dict | None = None) -> None:
    """A write fails after a certain number of a checkpoint's bytes."""
    case.options = options or {}
    moment = Moment("write", SAVING, case.random.randrange(1, 3))
    size = case.random.randrange(100_000, case.facts["bytes"])
    case.places.append(f"{moment}, byte {size}")
    case.strike(lambda: at(moment, limit_files(size)), MISTAKE)


@kind({f"{share} checkpoints": dict(share=share) for share in (0.001, 0.005, 0.5, 1.5)})
def full_file_system(case: Case, share: float) -> None:
    """A file system with room for less than two checkpoints; later there is more."""
    size = round(share * case.facts["bytes"])
    case.places.append(f"{size} bytes")
    case.work_dir.mkdir()
    with _mounted(case.work_dir, "-t", "tmpfs", "-o", f"size={size}", "tmpfs"):
        case.strike(lambda: None, MISTAKE)
        _mount("-o", "remount,size=1g", case.work_dir)
        case.finish()


@kind({"from the start": dict(start=True), "from an operation on": dict(start=False)})
def refused_writes(case: Case, start: bool) -> None:
    """Every change in the work dir is refused, as on a file system that is read-only."""
    if start:
        case.interrupt()
        case.strike(refuse_writes(case.work_dir), MISTAKE)
        return
    nth = case.random.randrange(1, case.facts["operations"] - 4)
    moment = Moment("", _below(case), nth)
    case.places.append(str(moment))
    case.strike(lambda: at(moment, refuse_writes(case.work_dir)), MISTAKE)


@kind({"from the start": dict(start=True), "in the middle": dict(start=False)})
def read_only_mount(case: Case, start: bool) -> None:
    """The work dir is mounted read-only."""
    if start:
        case.interrupt()
    case.work_dir.mkdir(exist_ok=True)
    launch = None if start else case.start()
    if launch:
        time.sleep(case.random.uniform(0.3, 0.6) * case.facts["seconds"])
    with _mounted(case.work_dir, "--bind", case.work_dir):
        _mount("-o", "remount,bind,ro", case.work_dir)
        if case.end(launch or case.start(), 0, MISTAKE) == 0:
            raise Missed("it ended too soon")
    case.require_saved()


@contextmanager
def _mounted(folder: Path, *what: Any) -> Iterator[None]:
    _mount(*what, folder)
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


def _mount(*what: Any) -> None:
    done = subprocess.run(["mount", *map(str, what)], capture_output=True, text=True, check=False)
    if done.returncode:
        raise Missed(f"mount is not permitted here: {done.stderr.strip()}")


DAMAGES = {
    "truncated": wreck.truncate,
    "emptied": wreck.empty,
    "header flipped": wreck.flip_header,
    "data flipped": wreck.flip_data,
    "directory flipped": wreck.flip_directory,
    "wrong checksum": wreck.swap_checksum,
}


@kind({name: dict(damage=damage) for name, damage in DAMAGES.items()})
def newest_damaged(case: Case, damage: Callable) -> None:
    """The one before it is taken."""
    case.interrupt()
    folder = _present_stage(case)
    newest = list(wreck.steps_saved(folder).values())[-1]
    case.places.append(f"{newest.name} {damage(newest, case.random)}")
    case.damaged = {newest}


@kind({name: dict(damage=DAMAGES[name]) for name in ("truncated", "data flipped")})
def all_damaged(case: Case, damage: Callable) -> None:
    """The run says so and takes none; it begins again when they are removed."""
    case.interrupt()
    files = list(wreck.steps_saved(_present_stage(case)).values())
    case.places += [f"{path.name} {damage(path, case.random)}" for path in files]
    case.end(case.start(), MISTAKE)
    for path in files:
        path.unlink()


@kind(
    {name: dict(damage=damage) for name, damage in DAMAGES.items()},
    runs=("dbot",),
)
def teacher_damaged(case: Case, damage: Callable) -> None:
    """The last checkpoint of a stage that is done, before the next one has taken it."""
    _kill_at(case, Moment("os.rename", "stage1/done.json$", after=True))
    last = list(wreck.steps_saved(case.stages[0]).values())[-1]
    case.places.append(f"{last.name} {damage(last, case.random)}")
    case.damaged = {last}


def _present_stage(case: Case) -> Path:
    """The folder of the stage that was interrupted."""
    return next(folder for folder in case.stages if not (folder / "done.json").exists())


def _write(content: bytes) -> Callable[[Path, Case], None]:
    return lambda path, case: path.write_bytes(content)


def _point_back(path: Path, case: Case) -> None:
    path.write_text(str(next(iter(wreck.steps_saved(path.parent).values()))))


def _point_outside(path: Path, case: Case) -> None:
    other = list(wreck.steps_saved(case.whole / case.run.stages[-1]).values())[-1]
    path.write_text(str(other))


def _half(path: Path, case: Case) -> None:
    text = (case.whole / case.run.stages[-1] / "done.json").read_text()
    path.write_text(text[: case.random.randrange(len(text) - 2)])


@kind(
    {
        "pointer removed": dict(name="last_checkpoint", change=lambda path, case: path.unlink()),
        "pointer stale": dict(name="last_checkpoint", change=_point_back),
        "pointer garbage": dict(name="last_checkpoint", change=_write(b"\xff\x00\xfe\n/")),
        "pointer outside": dict(name="last_checkpoint", change=_point_outside),
        "stopped.json garbage": dict(name="stopped.json", change=_write(b"{")),
        "a file half saved": dict(name=".iter_9.pth.saving", change=_write(b"PK")),
        "done.json half": dict(name="done.json", change=_half),
    }
)
def other_files(case: Case, name: str, change: Callable[[Path, Case], None]) -> None:
    """What is in the work dir besides checkpoints."""
    case.interrupt()
    change(_present_stage(case) / name, case)


@kind({"first": dict(rank=0), "second": dict(rank=1)}, processes=2)
def rank_killed(case: Case, rank: int) -> None:
    """SIGKILL to one of two processes: the other one ends by itself."""
    launch = _first_at_random(case, signal.SIGKILL, rank)
    begin = time.monotonic()
    codes = launch.wait(RANK_SECONDS)
    case.places.append(f"the other one ended {time.monotonic() - begin:.1f} s later")
    if codes[1 - rank] in (0, KILLED):
        raise Lost(f"the ranks ended with {codes}")
    case.require_saved()


@kind({"moved": dict(copy=False), "copied": dict(copy=True)})
def another_place(case: Case, copy: bool) -> None:
    """The work dir is moved or copied before the run is resumed."""
    case.interrupt()
    old, case.work_dir = case.work_dir, case.folder / "elsewhere" / "run"
    (shutil.copytree if copy else shutil.move)(old, case.work_dir)
    before = _digests(old)
    case.finish()
    if _digests(old) != before:
        raise Lost("the copy's run changed the original")


def _digests(folder: Path) -> dict[str, str]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {os.path.relpath(p, folder): sha256(p.read_bytes()).hexdigest() for p in files}
