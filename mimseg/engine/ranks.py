"""Sees that the processes of a run stay alike and alive, and names the one that does not."""

from __future__ import annotations

import faulthandler
import json
import os
import socket
import sys
import threading
import time
from datetime import timedelta
from typing import Any

import torch
from mmengine.dist import all_gather, get_rank, get_world_size
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch import Tensor, nn
from torch.distributed import PrefixStore, TCPStore
from torch.nn.modules.batchnorm import _BatchNorm

from mimseg.checkpoints.names import shorten
from mimseg.engine.wrappers import bare
from mimseg.errors import EndOfRun

INTERVAL = 5.0  # seconds between heartbeats
DEAD = 45.0  # seconds without one, after which a process is taken to be dead
STUCK = 3600.0  # seconds without progress of any process: longer than evaluations take
MARGIN = 120.0  # seconds by which collectives wait longer, so that the watch says where it hangs
_ODD = (-7046029254386353131, -4658895280553007687)  # splitmix64's constants, as signed numbers


class EqualWeightsHook(Hook):
    """End a run whose processes begin or end with different weights.

    A hash of the bits of each tensor of the model, saved teachers included, is compared. Running
    statistics of plain batch norms, which each process keeps of its own images, are left out.

    Raises:
        EndOfRun: (code 1) with the first tensors that differ and the ranks that differ from rank 0.
    """

    priority = "VERY_HIGH"  # before a hook changes what is compared

    def before_train(self, runner: Runner) -> None:
        self._compare(runner, "at the start of the training")

    def after_train(self, runner: Runner) -> None:
        self._compare(runner, "at the end of the training")

    def _compare(self, runner: Runner, when: str) -> None:
        if get_world_size() == 1:
            return
        model = bare(runner.model)
        by_rank = _kept_by_rank(model)
        state = {name: value for name, value in model.state_dict().items() if name not in by_rank}
        # of what is sharded, each process holds another part
        state = {name: value for name, value in state.items() if not hasattr(value, "to_local")}
        if not state:
            return
        # a teacher's fingerprint is on the host, whatever the device
        mine = torch.tensor([_hash(value) for value in state.values()])
        hashes = torch.stack(all_gather(mine))
        different = (hashes != hashes[0]).any(0)
        if different.any():
            names = [name for name, differs in zip(state, different, strict=True) if differs]
            ranks = [i for i, row in enumerate(hashes) if not torch.equal(row, hashes[0])]
            raise EndOfRun(
                f"{when} rank {', '.join(map(str, ranks))} and rank 0 have different weights: "
                f"{shorten(names, 3)}. All processes have to read the same files and run the same "
                "versions.",
                1,
            )


def _kept_by_rank(model: nn.Module) -> set[str]:
    """Names of the buffers that processes do not share."""
    norms = [(n, m) for n, m in model.named_modules() if isinstance(m, _BatchNorm)]
    norms = [(n, m) for n, m in norms if not isinstance(m, nn.SyncBatchNorm)]
    return {f"{name}.{buffer}" for name, norm in norms for buffer in norm._buffers}


def _hash(tensor: Tensor) -> int:
    """A hash of a tensor's bits and their places, computed on its device."""
    flat = tensor.detach().contiguous().view(-1)
    if flat.dtype == torch.bool:
        flat = flat.to(torch.uint8)
    kinds = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
    size = flat.element_size()
    bits = flat.view(kinds[size] if size in kinds else torch.int32).long()
    places = torch.arange(len(bits), device=bits.device)
    mixed = (bits * _ODD[0] + places) * _ODD[1]  # wraps around
    return int((mixed ^ (mixed >> 29)).mul_(_ODD[0]).sum())


class WatchHook(Hook):
    """Watch the other processes of a run, from a thread, and end this one when one is gone.

    Each process writes a heartbeat into the group's store, with its step and phase, whatever it
    does: loading, validation and saving do not disturb it. Collectives alone would wait for a
    process that is gone until their own timeout, and not name it. One that ends with an error is
    gone as well, unless the others end by then, too.

    Args:
        interval: seconds between heartbeats.
        dead: seconds without one, after which a process is gone.
        stuck: seconds after which a run in which no process makes progress ends; each process
            prints where it is.
    """

    priority = "VERY_LOW"
    _runs = 0  # of this process: stages share a store

    def __init__(
        self, interval: float = INTERVAL, dead: float = DEAD, stuck: float = STUCK
    ) -> None:
        self.interval, self.dead, self.stuck = interval, dead, stuck
        self._place, self._count = "before the first step", 0
        self._thread: threading.Thread | None = None
        self._closing = threading.Event()
        self._end = ""  # how this process ends: well, or with an error
        self._beats: dict[int, dict[str, Any]] = {}
        self._heard: dict[int, float] = {}

    def before_train(self, runner: Runner) -> None:
        if get_world_size() == 1 or None in _address():
            return
        WatchHook._runs += 1
        self._store = self._connect(self.dead)
        self._exchange()  # the others know of this process before its first step
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def _connect(self, seconds: float) -> PrefixStore:
        """A connection of its own: the group's may be held by a process that waits."""
        host, port = _address()
        socket.create_connection((host, int(port)), seconds).close()  # fails without torch's stacks
        limit = timedelta(seconds=seconds)
        server = TCPStore(host, int(port), is_master=False, timeout=limit)
        return PrefixStore(f"mimseg watch {WatchHook._runs}", server)

    def after_train_iter(self, runner: Runner, *args: object, **kwargs: object) -> None:
        self._note(f"step {runner.iter + 1}")

    def after_val_iter(self, runner: Runner, batch_idx: int, *args: object, **kw: object) -> None:
        self._note(f"step {runner.iter}, batch {batch_idx + 1} of a validation")

    def before_save(self, runner: Runner) -> None:
        self._note(f"saving at step {runner.iter}")

    def after_run(self, runner: Runner) -> None:
        self.close("well")

    def close(self, end: str = "with an error") -> None:
        """Say how this process ends, and stop watching, unless that was done before."""
        if self._thread is not None:
            self._end = end
            self._closing.set()
            self._thread.join(self.dead)
            self._thread = None

    def gone(self) -> str:
        """Who has not been heard of, in a sentence; waits for a few heartbeats to know."""
        limit = min(self.dead, 3 * self.interval)
        end = time.monotonic() + limit + 2 * self.interval
        while self._thread is not None and time.monotonic() < end:
            if late := self._late(limit):
                return late
            time.sleep(self.interval / 5)
        return ""

    def _note(self, place: str) -> None:
        self._place, self._count = place, self._count + 1

    def _watch(self) -> None:
        self._reached = moved = time.monotonic()
        counts: list[int] = []
        while True:
            last = self._closing.wait(self.interval)
            try:
                if self._store is None:
                    self._store = self._connect(self.interval)
                self._exchange()
                self._reached = time.monotonic()
            except Exception:  # a store that answers again in time is no death
                self._store = None  # a connection that broke stays broken
            if last:
                return
            now = [beat["count"] for beat in self._beats.values()]
            if now != counts:
                counts, moved = now, time.monotonic()
            if late := self._late(self.dead):
                self._exit(f"{late}: ending this process, rank {get_rank()}")
            if time.monotonic() - moved > self.stuck:
                places = "\n".join(f"  {line}" for line in self._places())
                faulthandler.dump_traceback(sys.stderr)
                self._exit(f"no process has made a step for {self.stuck:.0f} s:\n{places}")

    def _exchange(self) -> None:
        """Send this process's heartbeat and read the others'."""
        beat = dict(rank=get_rank(), host=socket.gethostname(), pid=os.getpid())
        beat |= dict(count=self._count, place=self._place, time=time.time(), end=self._end)
        self._store.set(str(get_rank()), json.dumps(beat))
        if self._end:
            return
        for rank in range(get_world_size()):
            if rank != get_rank() and self._store.check([str(rank)]):
                beat = json.loads(self._store.get(str(rank)))
                if beat != self._beats.get(rank):
                    self._beats[rank], self._heard[rank] = beat, time.monotonic()

    def _late(self, limit: float) -> str:
        """The first process that has not been heard of for this long."""
        now = time.monotonic()
        if now - self._reached > limit:
            who, place = "rank 0", ""
            if beat := self._beats.get(0):
                who, place = _name(beat), f"; the last was {beat['place']}"
            address = ":".join(map(str, _address()))
            return f"{who} or its host is gone: the store at {address} does not answer{place}"
        for rank, beat in sorted(self._beats.items()):
            seconds = now - self._heard[rank]
            if beat["end"] != "well" and seconds > limit:
                what = f"has not been heard of for {seconds:.0f} s"
                what = f"ended {beat['end']}" if beat["end"] else what
                return f"{_name(beat)} {what}; the last was {beat['place']}"
        return ""

    def _places(self) -> list[str]:
        """Where each process is, in a line."""
        mine = dict(rank=get_rank(), host=socket.gethostname(), pid=os.getpid(), place=self._place)
        beats = {**self._beats, get_rank(): mine}
        return [
            f"{_name(beats[i])}: {beats[i]['place']}" if i in beats else f"rank {i}: not heard of"
            for i in range(get_world_size())
        ]

    def _exit(self, text: str) -> None:
        """End the process: its main thread waits in a collective and cannot."""
        print(text, file=sys.stderr, flush=True)
        sys.stdout.flush()
        os._exit(1)


def _address() -> tuple[str | None, str | None]:
    """Of the group's store, as launchers set it."""
    return os.environ.get("MASTER_ADDR"), os.environ.get("MASTER_PORT")


def _name(beat: dict[str, Any]) -> str:
    return f"rank {beat['rank']} ({beat['host']}, process {beat['pid']})"
