"""Measures what a machine gives a training: memory, folders, decoding and arithmetic."""

from __future__ import annotations

import io
import os
import re
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

_CGROUPS = Path("/sys/fs/cgroup")


def memory() -> int | None:
    """Bytes of memory that this process may use; None where the system does not say."""
    limits = [int(text) for path in _limit_files() if (text := _read(path)).isdigit()]
    if total := re.search(r"MemTotal:\s+(\d+) kB", _read(Path("/proc/meminfo"))):
        limits.append(int(total.group(1)) << 10)
    return min(limits, default=None)


def _limit_files() -> list[Path]:
    """Where control groups, of both versions, keep the limits that hold here."""
    files = [_CGROUPS / "memory/memory.limit_in_bytes"]
    for line in _read(Path("/proc/self/cgroup")).splitlines():
        if line.startswith("0::/"):
            group = _CGROUPS / line[len("0::/") :]
            files += [folder / "memory.max" for folder in (group, *group.parents)]
    return files


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""


def existing(folder: Path) -> Path:
    """A folder, or the nearest one above it that is there."""
    folder = folder.expanduser().absolute()
    return next(path for path in (folder, *folder.parents) if path.is_dir())


def file_system(folder: Path, mounts: Path = Path("/proc/mounts")) -> str | None:
    """The type of the file system that a folder is on, such as "ext4" or "nfs4"."""
    place, kinds = str(folder.resolve()), {}
    for line in _read(mounts).splitlines():
        point, kind = line.split()[1:3]
        point = re.sub(r"\\(\d{3})", lambda code: chr(int(code.group(1), 8)), point)
        if f"{place}/".startswith(f"{point.rstrip('/')}/"):
            kinds[point] = kind  # the last mount on a point is the one in sight
    return kinds[max(kinds, key=len)] if kinds else None


def why_not_replaced(folder: Path) -> str | None:
    """Why a file in a folder cannot be written and put in the place of another; None where it can.

    A checkpoint is saved in that way.
    """
    try:
        with tempfile.TemporaryDirectory(dir=folder, prefix=".doctor") as name:
            old, new = Path(name, "old"), Path(name, "new")
            old.write_text("old")
            with new.open("w") as file:
                file.write("new")
                file.flush()
                os.fsync(file.fileno())
            os.replace(new, old)
            if new.exists() or old.read_text() != "new":
                return "a file that is renamed does not take the place of another"
    except OSError as error:
        return str(error.strerror or error)
    return None


def decode_rates(seconds: float = 0.25) -> dict[str, float]:
    """Photos of 500 x 375 pixels per second that one core decodes from JPEG, by library."""
    import cv2
    import numpy as np
    from PIL import Image

    coarse = np.random.default_rng(0).integers(0, 255, (24, 32, 3), np.uint8)
    photo = Image.fromarray(coarse).resize((500, 375), Image.Resampling.BICUBIC)
    stream = io.BytesIO()
    photo.save(stream, "JPEG", quality=90)
    content, pixels = stream.getvalue(), np.frombuffer(stream.getvalue(), np.uint8)
    return {
        "OpenCV": _rate(lambda: cv2.imdecode(pixels, cv2.IMREAD_COLOR), seconds),
        "Pillow": _rate(lambda: Image.open(io.BytesIO(content)).convert("RGB"), seconds),
    }


def matmul_rate(device: str, dtype: str, seconds: float = 0.25) -> float:
    """Floating-point operations per second in a product of square matrices.

    Args:
        device: "cpu", "cuda" or another of torch.
        dtype: "float32" or "bfloat16".
        seconds: how long it is measured.
    """
    import torch

    side = 512 if device == "cpu" else 4096
    a = torch.randn(side, side, device=device, dtype=getattr(torch, dtype))

    def multiply() -> None:
        product = a @ a
        if device != "cpu":
            product[0, 0].item()  # waits for the device

    return 2 * side**3 * _rate(multiply, seconds)


def _rate(work: Callable[[], object], seconds: float) -> float:
    """How often per second something can be done."""
    work()
    count, start = 0, time.perf_counter()
    while count == 0 or time.perf_counter() - start < seconds:
        work()
        count += 1
    return count / (time.perf_counter() - start)
