"""A side in a process of its own, asked over a pipe."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import traceback
from multiprocessing.connection import Connection
from typing import Any

from dev.cost.cell import OURS, Cell
from mimseg.errors import UserError
from mimseg.pipeline.keeper import die_with_parent


class BenchFailure(RuntimeError):
    """A side broke, or the two do not compute the same."""


class Worker:
    """Starts a side's process and hands its methods' results back.

    A context manager: the process ends with it.

    Args:
        cell: what is measured.
        ours: whether the backbone is `mimseg.ViT`.
    """

    def __init__(self, cell: Cell, ours: bool) -> None:
        self.name = OURS if ours else cell.stock
        os.environ["OMP_NUM_THREADS"] = str(cell.threads)  # read when the process imports torch
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=_serve, args=(theirs, cell, ours), daemon=True)
        self.process.start()
        theirs.close()

    def ask(self, method: str, *args: Any) -> Any:
        """Call a method of the side and wait for what it returns.

        Raises:
            UserError: as the side raised it.
            BenchFailure: anything else went wrong there.
        """
        with contextlib.suppress(BrokenPipeError):  # it ended: what follows says how
            self.pipe.send((method, args))
        try:
            kind, value = self.pipe.recv()
        except (EOFError, ConnectionResetError):
            self.process.join()
            code = self.process.exitcode
            raise BenchFailure(
                f"the process of {self.name} ended with code {code}"
                + (": out of memory?" if code == -signal.SIGKILL else "")
            ) from None
        if kind == "mistake":
            raise value
        if kind == "failure":
            raise BenchFailure(f"{self.name}: {value}")
        return value

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: object) -> None:
        self.pipe.close()
        self.process.kill()
        self.process.join()


def _serve(pipe: Connection, cell: Cell, ours: bool) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the command that started us ends us
    die_with_parent(signal.SIGKILL)
    side = None
    while True:
        try:
            method, args = pipe.recv()
        except EOFError:
            return
        try:
            if side is None:
                from dev.cost.side import Side  # here: the command that asks needs no torch

                side = Side(cell, ours)
            pipe.send(("done", getattr(side, method)(*args)))
        except UserError as mistake:
            pipe.send(("mistake", mistake))
        except Exception:
            pipe.send(("failure", traceback.format_exc()))
