"""Writes a checksum with each checkpoint and says which file is not as it was saved.

The checksum of `epoch_1.pth` is in `epoch_1.pth.sha256`, in the format of `sha256sum`. A file
without one (copied alone, or of another program) is judged by the CRCs that torch writes into its
archive, which torch itself does not check.

A kill may come at any moment of a save, and must leave neither a whole file that is judged by the
sum of another content, nor a damaged one that is taken for whole. `sealed` sees to it:

- A new name: the sum is written first, then the file is renamed to its name. A kill between the two
  leaves a sum without a file, which `remove_orphans` removes.
- A name that is there already (a step that is saved again after a resume): the old sum is removed,
  the file is renamed, the new sum is written. A kill within leaves the old or the new file without
  a sum, judged by its CRCs.
"""

from __future__ import annotations

import hashlib
import re
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path

from mimseg.files import flush, replacing

_SUM = re.compile(r"\\?([0-9a-fA-F]{64})\b")
_BLOCK = 1 << 20


def sidecar(path: Path) -> Path:
    """The file that holds a checkpoint's checksum."""
    return path.with_name(f"{path.name}.sha256")


def write_checksum(path: str | Path, content: Path | None = None) -> None:
    """Write a file's checksum next to it, atomically.

    Args:
        path: the file.
        content: where its content is as long as it has not been renamed to `path`.
    """
    path = Path(path)
    target = sidecar(path)
    with replacing(target, target.with_name(f".{target.name}.saving")) as temporary:
        temporary.write_text(f"{_sha256(content or path)}  {path.name}\n", encoding="utf-8")


@contextmanager
def sealed(path: Path, temporary: Path) -> Iterator[Path]:
    """Replace a file as `files.replacing` does, and its checksum with it.

    Sharded checkpoints, which are folders, get none.
    """
    again = path.exists()
    with replacing(path, temporary):
        yield temporary
        if again:
            sidecar(path).unlink(missing_ok=True)
            with suppress(OSError):  # as in `replacing`
                flush(path.parent)
        elif temporary.is_file():
            write_checksum(path, temporary)
    if again and path.is_file():
        write_checksum(path)


def remove_orphans(folder: Path) -> None:
    """Remove the checksums of checkpoints that are gone or never came."""
    for path in folder.glob("*.pth.sha256"):
        if not path.with_suffix("").exists():
            path.unlink(missing_ok=True)


def damage(path: str | Path) -> str:
    """Why a file is not what was saved, or "" where nothing speaks against it.

    A file is read through once per process, unless it changes.
    """
    path = Path(path)
    try:
        state = path.stat()
        if not state.st_size:
            return "it is empty"
        stamp = (state.st_mtime_ns, state.st_size, state.st_ino)
        return _judge(path, stamp, _recorded(sidecar(path)))
    except OSError as error:
        return f"it cannot be read ({error.strerror or error})"


@lru_cache(maxsize=256)
def _judge(path: Path, stamp: tuple[int, ...], recorded: str | None) -> str:
    """The damage of a file in the state that `stamp` stands for."""
    if recorded is None:
        return _broken_archive(path)
    return "" if _sha256(path) == recorded else f"its SHA-256 is not that in {sidecar(path).name}"


def _recorded(path: Path) -> str | None:
    try:
        match = _SUM.match(path.read_text(encoding="utf-8", errors="replace"))
    except FileNotFoundError:
        return None
    return match and match.group(1).lower()


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()


def _broken_archive(path: Path) -> str:
    """What is wrong with a torch archive; other kinds of files are left to their readers."""
    with path.open("rb") as stream:
        if stream.read(4) != b"PK\x03\x04":
            return ""
    try:
        with zipfile.ZipFile(path) as archive:
            for part in archive.infolist():
                if part.CRC:  # 0: empty, or saved without (torch.serialization.set_crc32_options)
                    with archive.open(part) as stream:
                        while stream.read(_BLOCK):
                            pass
    except (OSError, MemoryError):
        raise
    except Exception as error:  # a flipped bit in the archive's directory can lead to any
        whole = not isinstance(error, zipfile.BadZipFile) or zipfile.is_zipfile(path)
        return f"its archive is broken ({error})" if whole else "it is cut short"
    return ""
