"""The most memory that a process held between two moments."""

from __future__ import annotations

import ctypes
import gc
import sys
from pathlib import Path

_STATUS, _RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")


class PeakMemory:
    """Peak memory of this process above what it held when this was made.

    On a GPU: torch's max_memory_allocated above memory_allocated. On a CPU: the kernel's own high
    water mark of the resident memory (VmHWM), set back first (`5` to /proc/self/clear_refs), above
    the resident memory; before, garbage is collected and malloc gives free pages back, so that
    what an earlier pass left behind hides nothing. Linux alone has the mark.
    """

    HOW = {
        "cpu": "VmHWM, set back once the model was built, above VmRSS at that moment",
        "cuda": "torch's max_memory_allocated above memory_allocated once the model was built",
    }

    def __init__(self, device: str) -> None:
        gc.collect()
        self.device = device
        if device == "cuda":
            import torch

            torch.cuda.synchronize()
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
            self.before: int | None = torch.cuda.memory_allocated()
            return
        self.before = None
        if _can_reset():
            self.before = _kilobytes("VmRSS")

    def mebibytes(self) -> float | None:
        """The peak so far in MiB; None where it cannot be told."""
        if self.before is None:
            return None
        if self.device == "cuda":
            import torch

            return (torch.cuda.max_memory_allocated() - self.before) / 2**20
        return (_kilobytes("VmHWM") - self.before) / 2**10


def _can_reset() -> bool:
    if sys.platform != "linux":
        return False
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc's
    if trim is not None:
        trim(0)
    try:
        _RESET.write_text("5")
    except OSError:
        return False
    return True


def _kilobytes(key: str) -> int:
    lines = _STATUS.read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{key}:"))
