"""Damages the files of a work dir, and reckons by itself which checkpoints are whole."""

from __future__ import annotations

import json
import os
import re
import zipfile
from collections.abc import Collection
from pathlib import Path
from random import Random

import torch

CHECKPOINT = r"(epoch|iter|step)_\d+\.pth"


def steps_saved(folder: Path, damaged: Collection[Path] = ()) -> dict[int, Path]:
    """Step -> file of the whole checkpoints of a folder, in the order of steps.

    Whole is what torch reads as plain data and whose parts have the CRCs that they were written
    with. No function of the package is asked.

    Args:
        folder: a run's or a stage's.
        damaged: files that do not count, whatever can be seen in them.
    """
    steps = {}
    for path in folder.glob("*.pth"):
        if re.fullmatch(CHECKPOINT, path.name) and path not in damaged and _opens(path):
            meta = torch.load(path, map_location="cpu", weights_only=True)["meta"]
            steps[meta["iter"]] = path
    return dict(sorted(steps.items()))


def reckon(work_dir: Path, stages: Collection[str], damaged: Collection[Path] = ()) -> str:
    """Where a run has to continue: "step 6" of its first stage that is not done.

    Returns:
        "start" where that stage has no whole checkpoint, "finished" where no stage is left.
    """
    for stage in stages:
        folder = work_dir / stage
        try:
            last = folder / json.loads((folder / "done.json").read_text())["checkpoint"]
            if last not in damaged:
                continue
        except (OSError, ValueError):
            pass
        steps = steps_saved(folder, damaged)
        return f"step {max(steps)}" if steps else "start"
    return "finished"


def resumed_at(log: str) -> str | None:
    """Where a resumed run says that it continues, in the words of `reckon`; None for nowhere."""
    match = re.search(r"resumed +at step (\d+) of|(starts from the beginning)", log)
    if match:
        return f"step {match[1]}" if match[1] else "start"
    return "finished" if "is finished: nothing to do" in log else None


def steps_logged(folder: Path) -> int:
    """The last training step in the logs of a run's or a stage's folder; 0 without any."""
    steps = [0]
    for path in folder.glob("*/vis_data/scalars.json"):
        for line in path.read_text().splitlines():
            try:
                row = json.loads(line)
            except ValueError:  # a line that a kill cut short
                continue
            if "loss" in row:
                steps.append(row.get("iter", row["step"]))
    return max(steps)


def truncate(path: Path, random: Random) -> str:
    """Cut a file short at a random length."""
    size = random.randrange(1, path.stat().st_size)
    os.truncate(path, size)
    return f"cut at byte {size}"


def empty(path: Path, random: Random) -> str:
    """Leave nothing in a file."""
    os.truncate(path, 0)
    return "emptied"


def flip_header(path: Path, random: Random) -> str:
    """Flip a bit of the archive's first bytes."""
    return _flip(path, random.randrange(30), random)


def flip_data(path: Path, random: Random) -> str:
    """Flip a bit of a tensor's values."""
    with zipfile.ZipFile(path) as archive:
        parts = [part for part in archive.infolist() if "/data/" in part.filename]
    part = random.choices(parts, [part.file_size for part in parts])[0]
    with path.open("rb") as file:
        file.seek(part.header_offset + 26)
        name, extra = (int.from_bytes(file.read(2), "little") for _ in range(2))
    start = part.header_offset + 30 + name + extra
    return _flip(path, start + random.randrange(part.file_size), random)


def flip_directory(path: Path, random: Random) -> str:
    """Flip a bit of the archive's directory, which is at its end."""
    with zipfile.ZipFile(path) as archive:
        start = archive.start_dir
    return _flip(path, random.randrange(start, path.stat().st_size), random)


def swap_checksum(path: Path, random: Random) -> str:
    """Give a file the checksum of another content."""
    sidecar = path.with_name(f"{path.name}.sha256")
    sidecar.write_text(f"{random.getrandbits(256):064x}  {path.name}\n")
    return "with another checksum"


def _flip(path: Path, place: int, random: Random) -> str:
    bit = random.randrange(8)
    with path.open("r+b") as file:
        file.seek(place)
        value = file.read(1)[0] ^ (1 << bit)
        file.seek(place)
        file.write(bytes([value]))
    return f"bit {bit} of byte {place} flipped"


def _opens(path: Path) -> bool:
    try:
        with zipfile.ZipFile(path) as archive:
            if archive.testzip() is not None:
                return False
        torch.load(path, map_location="cpu", weights_only=True)
    except Exception:  # a damaged pickle may raise any
        return False
    return True
