"""Writes files so that a kill leaves the old content or the new, never half; reads small ones."""

from __future__ import annotations

import errno
import json
import math
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from mimseg.errors import EndOfRun, UserError

# the disk is full, its quota or the largest file is reached, it is read-only, the folder is closed
_UNWRITABLE = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM}


@contextmanager
def report_unwritable(key: str, path: str | Path, fix: str = "") -> Iterator[None]:
    """Within the block, report that nothing can be written below `path` as a UserError.

    Args:
        key: the flag or config key that names `path`.
        path: a file or folder that the block writes.
        fix: what to do, where there is more to say than the usual.

    Raises:
        UserError: no space, or no right to write. Other errors pass, and so do those of files
            elsewhere.
    """
    try:
        yield
    except (EndOfRun, UserError):
        raise
    except Exception as error:
        folder = Path(path) if Path(path).is_dir() else Path(path).parent
        cause = _system_error(error)
        if cause is None or not _is_below(cause.filename, folder):
            raise
        where = f"; {cause.filename}" if cause.filename else ""
        raise UserError(
            key,
            str(path),
            expected=f"a place that can be written ({cause.strerror}{where})",
            fix=fix or "free some space there, or name another place",
        ) from error


def _system_error(error: BaseException | None) -> OSError | None:
    """The system's refusal to write behind an error; torch and safetensors raise their own."""
    while error is not None:
        number = getattr(error, "errno", None)
        if match := re.search(r"\(os error (\d+)\)", str(error)):
            number = int(match.group(1))
        if number in _UNWRITABLE:
            return error if isinstance(error, OSError) else OSError(number, os.strerror(number))
        error = error.__cause__ if error.__suppress_context__ else error.__context__
    return None


def _is_below(name: object, folder: Path) -> bool:
    """Whether a file is in a folder; one without a name counts."""
    return name is None or Path(str(name)).absolute().is_relative_to(folder.absolute())


@contextmanager
def replacing(path: Path, temporary: Path | None = None) -> Iterator[Path]:
    """Yield a temporary path to write to; at the end of the block it replaces `path`.

    What was written is flushed to the disk before it is renamed, and the folder after that. Where
    the block or the renaming fails, `path` is unchanged and the temporary file is removed. The
    folder is made where it is missing.

    Args:
        path: the file that is replaced. A folder can be put in its place where nothing is there.
        temporary: the path to yield, in the same folder; None for a name of this process's own.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = temporary or path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        if temporary.is_file():
            flush(temporary)
        os.replace(temporary, path)
    except BaseException:
        with suppress(OSError):  # the disk may be read-only by now; the first error counts
            shutil.rmtree(temporary) if temporary.is_dir() else temporary.unlink(missing_ok=True)
        raise
    with suppress(OSError):  # some network disks cannot flush a folder
        flush(path.parent)


def saving(path: Path) -> Path:
    """The temporary name of a checkpoint, which what a killed run left is recognized by."""
    return path.with_name(f".{path.name}.saving")


def flush(path: Path) -> None:
    """Have what was written to a file, or the names in a folder, put on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_text(path: Path, text: str) -> None:
    """Write `text` to `path`, atomically."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def read_section(path: Path, begin: str, end: str) -> str:
    """The text between two markers of a text file, without the blank lines around it.

    Raises:
        UserError: the file is missing or has no markers.
    """
    return _sections(path, begin, end)[1].strip()


def replace_section(path: Path, begin: str, end: str, text: str) -> None:
    """Put `text` between two markers of a text file, atomically.

    Raises:
        UserError: the file is missing or has no markers.
    """
    before, _, after = _sections(path, begin, end)
    write_text(path, f"{before}{begin}\n\n{text}\n\n{end}{after}")


def _sections(path: Path, begin: str, end: str) -> tuple[str, str, str]:
    """What is before, between and after the markers."""
    text = path.read_text(encoding="utf-8") if path.is_file() else ""
    before, first, rest = text.partition(begin)
    between, second, after = rest.partition(end)
    if not first or not second:
        raise UserError(str(path), None, expected=f"the markers {begin} and {end}", fix="add them")
    return before, between, after


def write_json(path: Path, value: Any) -> None:
    """Write `value` as indented JSON, atomically.

    JSON has no numbers that are not finite: None stands for them.
    """
    text = json.dumps(_finite(value), indent=2, ensure_ascii=False, allow_nan=False)
    write_text(path, text + "\n")


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    return [_finite(item) for item in value] if isinstance(value, (list, tuple)) else value


def update_json(path: Path, value: Any) -> Path:
    """Write `value` as JSON unless the file holds an equal one, whose date then stays."""
    if read_json(path) != value:
        write_json(path, value)
    return path


def read_json(path: Path) -> Any:
    """The JSON at `path`, or None where the file is missing or does not parse."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def tail(path: Path, lines: int = 15) -> str:
    """The last `lines` lines of a text file, or an empty string where there is none."""
    try:
        with open(path, "rb") as file:
            file.seek(0, os.SEEK_END)
            file.seek(max(0, file.tell() - 20_000))
            text = file.read().decode("utf-8", errors="replace")
    except OSError:
        return ""
    return "\n".join(text.rstrip().splitlines()[-lines:])
