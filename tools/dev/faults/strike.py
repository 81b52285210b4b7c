"""Strikes a training at a file operation: with a signal, or as a disk that is full or read-only.

All but `Moment` runs in the training's own process, before it begins.
"""

from __future__ import annotations

import errno
import os
import re
import resource
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from pathlib import Path

Strike = Callable[[], None]
_PLACE = {"open": 0, "os.rename": 1, "os.remove": 0, "os.mkdir": 0, "os.scandir": 0}
_CHANGES = ("os.rename", "os.remove", "os.mkdir")


@dataclass(frozen=True)
class Moment:
    """An operation on files, or a call, within a training.

    Args:
        operation: "write" or "read" (a file is opened for it), "open" (a file or folder is opened
            to be flushed), "os.rename", "os.remove", "os.mkdir", "os.scandir", "" for any of them;
            or the full name of a method that is called.
        path: a regular expression that the operation's path (a renamed one's new path) has to
            contain.
        nth: which one of those, counted from 1.
        after: when it is over, at the next operation, instead of before it.
    """

    operation: str
    path: str = ""
    nth: int = 1
    after: bool = False

    def __str__(self) -> str:
        what = " ".join(filter(None, (self.operation or "operation", self.path)))
        return f"{'after' if self.after else 'before'} {what} #{self.nth}"


def at(moment: Moment, strike: Strike) -> None:
    """Strike at a moment, once."""
    count, struck, pattern = 0, False, re.compile(moment.path)

    def passing(operation: str, path: str) -> None:
        nonlocal count, struck
        if struck:
            return
        if moment.after and count == moment.nth:
            struck = True
            strike()
        elif moment.operation in ("", operation) and pattern.search(path):
            count += 1
            if count == moment.nth and not moment.after:
                struck = True
                strike()

    owner, _, name = moment.operation.rpartition(".")
    if owner in ("", "os"):
        _watch(passing)
        return
    module, _, kind = owner.rpartition(".")
    kind = getattr(import_module(module), kind)
    call = getattr(kind, name)

    def called(*args: object, **kwargs: object) -> object:
        passing(moment.operation, "")
        return call(*args, **kwargs)

    setattr(kind, name, called)


def trace(folder: Path, file: Path) -> None:
    """Write a line to a file for each operation below a folder."""
    handle = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def passing(operation: str, path: str) -> None:
        if path.startswith(f"{folder}/"):
            os.write(handle, f"{operation} {path}\n".encode())

    _watch(passing)


def kill_group() -> None:
    """SIGKILL to this process and to all of its group."""
    os.killpg(0, signal.SIGKILL)


def send(number: signal.Signals) -> Strike:
    """A signal to this process."""
    return lambda: os.kill(os.getpid(), number)


def limit_files(size: int, fatal: bool = False) -> Strike:
    """Let no file grow beyond a size from now on: the system writes up to there and no further.

    Args:
        size: in bytes.
        fatal: the system ends the process in the middle of that write, else the write fails.
    """

    def strike() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
        if fatal:
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
            signal.signal(signal.SIGXFSZ, signal.SIG_DFL)  # Python ignores it

    return strike


def refuse_writes(folder: Path) -> Strike:
    """Let every change below a folder fail from now on, as on a disk mounted read-only."""

    def passing(operation: str, path: str) -> None:
        if operation in ("write", *_CHANGES) and path.startswith(f"{folder}/"):
            raise OSError(errno.EROFS, os.strerror(errno.EROFS), path)

    return partial(_watch, passing)


def _watch(passing: Callable[[str, str], None]) -> None:
    """Call a function before each operation of this process and of those that it forks."""

    def hook(event: str, args: tuple) -> None:
        place = _PLACE.get(event)
        if place is None or not isinstance(args[place], (str, bytes, os.PathLike)):
            return
        path = os.path.abspath(os.fsdecode(args[place]))
        passing(_opened(args[1], args[2]) if event == "open" else event, path)

    sys.addaudithook(hook)


def _opened(mode: str | None, flags: int) -> str:
    """What a file is opened for; `os.open` has no mode."""
    if flags & (os.O_WRONLY | os.O_RDWR):
        return "write"
    return "read" if mode else "open"
