"""Turns a signal into a wish to stop, which all ranks agree on."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from types import FrameType
from typing import Any

import torch
from mmengine.device import get_device
from mmengine.dist import get_world_size, is_main_process

from mimseg.engine.verdict import Readback
from mimseg.pipeline.keeper import die_with_parent

SIGNALS = ("SIGTERM", "SIGUSR1", "SIGINT")
RESUMABLE = 75  # sysexits.h's EX_TEMPFAIL: the same command can be run again


# a launcher passes on a signal that its processes had from the terminal or the scheduler themselves
_SAME_SIGNAL = 10.0


class StopRequest:
    """While it is installed, the first of `SIGNALS` is noted, and a second one ends the process.

    In a group of processes the signals of ten seconds count as one.

    Attributes:
        name: the signal that came, or None.
    """

    def __init__(self) -> None:
        self.name: str | None = None
        self._since = 0.0
        self._before: dict[int, Any] = {}

    def install(self) -> None:
        """Take the signals over; only the main thread can, others leave them."""
        if threading.current_thread() is not threading.main_thread() or self._before:
            return
        for name in SIGNALS:
            if number := getattr(signal, name, None):
                self._before[number] = signal.signal(number, self._handle)

    def remove(self) -> None:
        """Give the signals back."""
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.name is None:
            self.name, self._since = signal.Signals(number).name, time.monotonic()
            if is_main_process():
                # not print: the signal may have come within one
                text = f"{self.name}: saving after this step, then stopping; again to stop at once"
                os.write(1, f"{text}\n".encode())
            return
        if get_world_size() > 1 and time.monotonic() - self._since < _SAME_SIGNAL:
            return
        self.remove()
        if number == signal.SIGINT:
            raise KeyboardInterrupt
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)


def shield_worker(init: Callable[[int], None] | None, worker: int) -> None:
    """Start a loader process that leaves signals to the training, which needs it for its last step.

    Terminals, schedulers and `kill -- -PGID` signal the whole group. A SIGTERM of the training
    itself, which is how it ends its loaders, is obeyed. On Linux a loader process ends with its
    parent; torch's own outlive it where what they have read does not fit into the pipe to it.

    Args:
        init: the loader's own function for the start of a process.
        worker: the process's number.
    """
    for name in SIGNALS:
        if number := getattr(signal, name, None):
            if name != "SIGTERM":
                signal.signal(number, signal.SIG_IGN)
            elif hasattr(signal, "sigwaitinfo"):  # which tells who sent it
                signal.pthread_sigmask(signal.SIG_BLOCK, {number})
                threading.Thread(target=_obey, args=(os.getppid(), number), daemon=True).start()
    die_with_parent(signal.SIGKILL)
    if init is not None:
        init(worker)


def _obey(parent: int, number: int) -> None:
    """End this process when its parent sends the signal."""
    while signal.sigwaitinfo({number}).si_pid != parent:
        pass
    os._exit(0)


class Agreement:
    """Lets ranks agree on flags without waiting for the device.

    With several ranks on GPUs, what was put in at one call comes out of the next one: the values
    are on their way to the host during a step.
    """

    def __init__(self) -> None:
        self._pending: Readback | None = None

    def forget(self) -> None:
        """Drop what is on its way; all ranks do so together."""
        self._pending = None

    def exchange(self, *flags: bool) -> tuple[bool, ...]:
        """Flags that any rank has set; all ranks get the same answer at the same call."""
        if get_world_size() == 1:
            return flags
        device = get_device()
        values = torch.tensor(flags, dtype=torch.int32)
        if device == "cpu":
            torch.distributed.all_reduce(values, torch.distributed.ReduceOp.MAX)
            return tuple(bool(value) for value in values)
        answer = tuple(False for _ in flags)
        if self._pending is not None:
            answer = tuple(bool(value) for value in self._pending.read())
        values = values.pin_memory().to(device, non_blocking=True)
        torch.distributed.all_reduce(values, torch.distributed.ReduceOp.MAX)
        self._pending = Readback(values)
        return answer
