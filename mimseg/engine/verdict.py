"""Judges on the device whether a training step is finite."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import torch
from mmengine.dist import all_reduce, get_rank, get_world_size
from torch import Tensor

_KEPT = 100  # verdicts, where nobody asks for them


@dataclass(frozen=True)
class Verdict:
    """What is known about a step, the same on all ranks.

    Args:
        iteration: the step's last iteration, from 0.
        norm: of the whole gradient, before it is clipped.
        gradient: whether the gradient is finite.
        ranks: those whose losses are not.
        skipped: how many steps in a row were skipped, this one included; 0 for a step that counts.
        over: whether those are more than allowed. From then on no step changes anything.
    """

    iteration: int
    norm: float
    gradient: bool
    ranks: tuple[int, ...]
    skipped: int
    over: bool


class Readback:
    """Brings a tensor to the host without waiting for the device."""

    def __init__(self, values: Tensor) -> None:
        self._arrived = None
        if values.is_cuda:
            self._host = torch.empty(values.shape, dtype=values.dtype, pin_memory=True)
            self._host.copy_(values, non_blocking=True)
            self._arrived = torch.cuda.Event()
            self._arrived.record()
        else:
            self._host = values.detach().clone()

    def read(self) -> list[float]:
        """The values; waits for those that are still on their way."""
        if self._arrived is not None:
            self._arrived.synchronize()
        return self._host.tolist()


def is_host(device: torch.device) -> bool:
    """Whether the host reads this device's tensors without waiting."""
    return device.type == "cpu"


class Judge:
    """Decides whether steps count, and remembers it.

    A step counts where all ranks' losses and the gradient are finite. After more than `allowed`
    steps in a row that do not, none counts any more: the host, which learns of it a step later,
    then meets the state before the first of the steps too many.

    Args:
        allowed: steps in a row that may be skipped.
        note: is called with each verdict as soon as it is on the host.

    Attributes:
        iteration: of the present step, for its verdict; whoever counts them sets it.
        over: a scalar on the device, 1 from the moment on when no step counts any more.
    """

    def __init__(self, allowed: int = 0, note: Callable[[Verdict], None] | None = None) -> None:
        self.allowed, self.iteration, self._note = allowed, 0, note
        self.over = self._row = torch.zeros(())
        self._under_way: tuple[int, Readback] | None = None
        self._verdicts: deque[Verdict] = deque(maxlen=_KEPT)

    def decide(self, bad_loss: Tensor | bool, norm: Tensor) -> Tensor:
        """Judge a step without waiting for the device to finish it; all ranks take part.

        Args:
            bad_loss: whether a loss of this rank is not finite, a boolean scalar.
            norm: of the gradient, a scalar.

        Returns:
            A float scalar on the device of `norm`: 1 where the step is to be skipped, else 0.
        """
        bad = torch.zeros(1 + get_world_size(), device=norm.device)
        bad[0] = ~norm.isfinite()
        bad[1 + get_rank()] = bad_loss
        all_reduce(bad, "max")
        worst = bad.amax()
        self._row = (self._row.to(norm.device) + 1) * worst
        self.over = torch.maximum(self.over.to(norm.device), (self._row > self.allowed).float())
        values = torch.cat([torch.stack([norm, self._row, self.over]), bad])
        self._read()  # the one before has had a step's time
        self._under_way = (self.iteration, Readback(values))
        if is_host(norm.device):
            self._read()
        return torch.maximum(worst, self.over)

    def verdicts(self, wait: bool = False) -> list[Verdict]:
        """Those since the last call, oldest first.

        Args:
            wait: for the newest one, too; without it, it is left out while it is on its way.
        """
        if wait:
            self._read()
        verdicts = list(self._verdicts)
        self._verdicts.clear()
        return verdicts

    def _read(self) -> None:
        if self._under_way is None:
            return
        iteration, values = self._under_way
        self._under_way = None
        norm, row, over, gradient, *losses = values.read()
        ranks = tuple(rank for rank, bad in enumerate(losses) if bad)
        verdict = Verdict(iteration, norm, not gradient, ranks, int(row), bool(over))
        self._verdicts.append(verdict)
        if self._note is not None:
            self._note(verdict)
