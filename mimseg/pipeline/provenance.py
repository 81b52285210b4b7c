"""Describes the machine, packages and commit that a number was measured with."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from mimseg import __version__

PACKAGES = (
    "torch",
    "torchvision",
    "onedl-mmengine",
    "onedl-mmcv",
    "onedl-mmpretrain",
    "onedl-mmsegmentation",
    "onedl-mmdetection",
    "timm",
    "open_clip_torch",
    "faster-coco-eval",
    "numpy",
)


def environment(checkout: Path | None) -> dict[str, Any]:
    """Python, packages, machine, commit and date, all plain text and numbers."""
    return {
        "python": platform.python_version(),
        "packages": {name: text for name in PACKAGES if (text := installed(name))},
        **machine(),
        "commit": commit(checkout) if checkout else f"v{__version__}",
        "date": datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
    }


def machine() -> dict[str, Any]:
    """CPU model, usable cores, GPU if there is one, and torch's version."""
    facts = {"cpu": _cpu(), "cores": usable_cores(), "torch": installed("torch")}
    gpu = _output(["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"])
    return facts | ({"gpu": gpu.splitlines()[0]} if gpu else {})


def usable_cores() -> int | None:
    """Cores that this process may use; None where the system does not say."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


def installed(name: str) -> str | None:
    """A distribution's version, or None."""
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def commit(root: Path) -> str:
    """The commit of `root`, with '-dirty' where code differs from it; 'unknown' without git.

    Records that are being written (docs/results) do not make it dirty.
    """
    head = _output(["git", "-C", str(root), "rev-parse", "HEAD"])
    if not head:
        return "unknown"
    status = ["git", "-C", str(root), "status", "--porcelain", "--untracked-files=no"]
    changed = _output([*status, "--", ".", ":!docs/results", ":!docs/methods", ":!docs/methods.md"])
    return f"{head}-dirty" if changed else head


def short_commit(commit: str) -> str:
    """Ten digits, and whether the code differed from it."""
    head, _, dirty = commit.partition("-")
    return head[:10] + ("-dirty" if dirty else "")


def _cpu() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _output(argv: list[str]) -> str:
    if shutil.which(argv[0]) is None:
        return ""
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    return done.stdout.strip() if done.returncode == 0 else ""
