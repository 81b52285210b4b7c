"""Locks a work dir for one runner."""

from __future__ import annotations

import fcntl
import os
import time
from pathlib import Path

from mimseg.errors import UserError


class WorkDirLock:
    """Holds a work dir for this process; the kernel frees it however the process ends.

    Steps inherit the lock, so it also stays taken for the moment that the steps of a killed runner
    need to die: then this waits for them instead of refusing.

    Args:
        work_dir: the folder; it is made.
        patience: seconds to wait for the steps of a runner that is gone.

    Raises:
        UserError: another runner works there, or the folder cannot be written.
    """

    def __init__(self, work_dir: Path, patience: float = 15.0) -> None:
        self.work_dir, self.patience = work_dir, patience
        self.fd: int | None = None

    def __enter__(self) -> WorkDirLock:
        try:
            self.work_dir.mkdir(parents=True, exist_ok=True)
            self.fd = os.open(self.work_dir / ".lock", os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            raise UserError(
                "--work-dir",
                str(self.work_dir),
                expected=f"a folder that can be written ({error.strerror})",
            ) from error
        deadline = time.monotonic() + self.patience
        while not self._take():
            owner = os.pread(self.fd, 32, 0).decode().strip()
            if _alive(owner) or time.monotonic() > deadline:
                os.close(self.fd)
                self.fd = None
                raise UserError(
                    "--work-dir",
                    str(self.work_dir),
                    expected=f"a folder that no other run works in (process {owner or 'unknown'} "
                    "does)",
                    fix="wait for it, stop it, or give another folder",
                )
            time.sleep(0.1)
        os.ftruncate(self.fd, 0)
        os.pwrite(self.fd, str(os.getpid()).encode(), 0)
        return self

    def __exit__(self, *exc) -> None:
        if self.fd is not None:
            os.close(self.fd)
            self.fd = None

    def _take(self) -> bool:
        try:
            fcntl.flock(self.fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True


def _alive(pid: str) -> bool:
    try:
        os.kill(int(pid), 0)
    except PermissionError:
        return True
    except (ValueError, ProcessLookupError, OverflowError):
        return False
    return True
