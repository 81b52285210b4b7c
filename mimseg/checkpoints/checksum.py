"""Writes a checksum with each checkpoint and says which file is not as it was saved.

The checksum of `epoch_1.pth` is in `epoch_1.pth.sha256`, in the format of `sha256sum`. A file
without one (copied alone, or of another program) is judged by the CRCs that torch writes into its
archive, which torch itself does not check.

The tensors of a sharded checkpoint (`mimseg.checkpoints.shards`) are in further lines.

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
import os
import re
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path

from mimseg.files import flush, replacing, saving

_SUM = re.compile(r"^\\?([0-9a-fA-F]{64})\b *\*?(.*)$", re.MULTILINE)
_FILE = ""
_BLOCK = 1 << 20


def sidecar(path: Path) -> Path:
    """The file that holds a checkpoint's checksum."""
    return path.with_name(f"{path.name}.sha256")


def write_checksum(
    path: str | Path, content: Path | None = None, shards: Path | None = None
) -> None:
    """Write a file's checksum next to it, atomically.

    Args:
        path: the file.
        content: where its content is as long as it has not been renamed to `path`.
        shards: the folder with its tensors, beside it.
    """
    path = Path(path)
    target = sidecar(path)
    lines = [f"{_sha256(content or path)}  {path.name}"]
    for part in sorted(shards.iterdir()) if shards else ():
        lines.append(f"{_sha256(part)}  {shards.name}/{part.name}")
    with replacing(target, saving(target)) as temporary:
        temporary.write_text("\n".join(lines) + "\n", encoding="utf-8")


@contextmanager
def sealed(path: Path, temporary: Path, shards: Path | None = None) -> Iterator[Path]:
    """Replace a file as `files.replacing` does, and its checksum with it.

    Checkpoints that are folders, as deepspeed's, get none.

    Args:
        path: the file.
        temporary: what the block writes.
        shards: the folder with the file's tensors, in place by the end of the block.
    """
    again = path.exists()
    with replacing(path, temporary):
        yield temporary
        if again:
            sidecar(path).unlink(missing_ok=True)
            with suppress(OSError):  # as in `replacing`
                flush(path.parent)
        elif temporary.is_file():
            write_checksum(path, temporary, shards)
    if again and path.is_file():
        write_checksum(path, shards=shards)


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
        record = sidecar(path)
        sums = _recorded(record)
        if reason := _judge(path, _stamp(state), sums.pop(_FILE, None), record.name):
            return reason
        for name, recorded in sums.items():
            part = path.parent / name
            if not part.is_file():
                return f"{name} is missing"
            if reason := _judge(part, _stamp(part.stat()), recorded, record.name):
                return f"{name}: {reason}"
        return ""
    except OSError as error:
        return f"it cannot be read ({error.strerror or error})"


def shards_of(path: Path) -> str | None:
    """The folder in which a checkpoint's checksums have its tensors; None without any."""
    parts = [name for name in _recorded(sidecar(path)) if name != _FILE]
    return parts[0].partition("/")[0] if parts else None


def _stamp(state: os.stat_result) -> tuple[int, ...]:
    return state.st_mtime_ns, state.st_size, state.st_ino


@lru_cache(maxsize=256)
def _judge(path: Path, stamp: tuple[int, ...], recorded: str | None, source: str) -> str:
    """The damage of a file in the state that `stamp` stands for, by the checksum in `source`."""
    if recorded is None:
        return _broken_archive(path)
    return "" if _sha256(path) == recorded else f"its SHA-256 is not that in {source}"


def _recorded(path: Path) -> dict[str, str]:
    """SHA-256 by file; the first is the checkpoint's, which may have been renamed: `_FILE`."""
    try:
        lines = _SUM.findall(path.read_text(encoding="utf-8", errors="replace"))
    except FileNotFoundError:
        return {}
    return {name if number else _FILE: value.lower() for number, (value, name) in enumerate(lines)}


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
