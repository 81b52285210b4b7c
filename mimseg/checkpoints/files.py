"""Reads checkpoint files without running code, and finds the right one in a work dir."""

from __future__ import annotations

import logging
import re
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from pickle import UnpicklingError

import numpy as np
import torch
from mmengine.logging import HistoryBuffer, print_log
from torch import Tensor

from mimseg.errors import UserError

_NUMBERED = re.compile(r"(?:epoch|iter)_(\d+)\.pth$")
_GLOBAL = re.compile(r"GLOBAL ([\w.]+)")
_SCALARS = "?bhilqBHILQefd"  # numpy's type characters: bool, integers, floats


class UntrustedCheckpoint(UserError):
    """A file that would run code when loaded, and was not trusted."""


def _history_method(owner: object, name: str) -> object:
    """Stand in for `getattr`, which mmengine's log buffers ask for: public methods of them only."""
    if owner is not HistoryBuffer or name.startswith("_"):
        raise UnpicklingError("GLOBAL builtins.getattr is allowed for log buffers only")
    return getattr(owner, name)


def _allowed_globals() -> list:
    """What mmengine writes into a checkpoint besides tensors and plain Python values."""
    multiarray = np._core.multiarray
    return [
        HistoryBuffer,
        (_history_method, "builtins.getattr"),
        slice,
        np.ndarray,
        np.dtype,
        multiarray._reconstruct,
        multiarray.scalar,
        (multiarray._reconstruct, "numpy.core.multiarray._reconstruct"),  # numpy 1 wrote these
        (multiarray.scalar, "numpy.core.multiarray.scalar"),
        *dict.fromkeys(type(np.dtype(char)) for char in _SCALARS),
        type(np.dtype("U1")),
    ]


def read_checkpoint(
    path: str | Path, trust: bool = False, *, mmap: bool = False, key: str = "checkpoint"
) -> dict:
    """Read a checkpoint onto the CPU; code in it is never run unless `trust` is true.

    Args:
        path: a `.safetensors` file, or what `torch.save` wrote.
        trust: unpickle whatever the file holds. Only for files whose origin you know.
        mmap: map the tensors instead of reading them, to look at a file cheaply.
        key: the config key or flag that an error names.

    Returns:
        The dict in the file. A pickled module or a TorchScript archive (with `trust` only) comes
        back as {"state_dict": its weights}.

    Raises:
        UserError: no such file, not a checkpoint, cut short, or more than data without `trust`.
    """
    path = Path(path).expanduser()
    if not path.is_file():
        raise UserError(
            key, str(path), expected="an existing checkpoint file", fix="check the path"
        )
    try:
        loaded = _load(path, trust, mmap)
    except (MemoryError, UserError):
        raise
    except Exception as error:
        raise _refusal(key, path, error) from error
    if hasattr(loaded, "state_dict"):
        loaded = {"state_dict": loaded.state_dict()}
    if not isinstance(loaded, dict):
        what = f"a checkpoint, a dict with weights; the file holds a {type(loaded).__name__}"
        raise UserError(key, str(path), expected=what)
    return loaded


def _load(path: Path, trust: bool, mmap: bool) -> object:
    if path.suffix == ".safetensors":
        from safetensors.torch import load_file

        return load_file(path)
    options = {"map_location": "cpu", "weights_only": not trust}
    with torch.serialization.safe_globals([] if trust else _allowed_globals()):
        if mmap:
            try:
                return torch.load(path, mmap=True, **options)
            except RuntimeError:
                pass  # torch's old format, which cannot be mapped; a broken file fails again below
        return torch.load(path, **options)


def _refusal(key: str, path: Path, error: Exception) -> UserError:
    text = str(error).strip()
    reason = text.partition("WeightsUnpickler error:")[2].strip() or text or type(error).__name__
    reason = reason.splitlines()[0][:160]
    if isinstance(error, (AttributeError, ImportError)):  # trusted, and its code is not here
        fix = "put that code on PYTHONPATH, or have the file saved again with its weights alone"
        return UserError(
            key, str(path), expected=f"a file whose code can be imported ({reason})", fix=fix
        )
    code = _GLOBAL.search(text)
    script = "TorchScript" in text
    # in a whole archive, what the unpickler refuses is foreign and not damaged
    if code or script or (isinstance(error, UnpicklingError) and zipfile.is_zipfile(path)):
        holds = f"the code of {code.group(1)}" if code else f"objects ({reason})"
        return UntrustedCheckpoint(
            key,
            str(path),
            expected="a file of tensors and plain values; this one also holds "
            + ("a TorchScript program" if script else holds),
            fix="if you trust its origin, load it with --trust (in a config: trust=True in the "
            "teacher, or in init_cfg=dict(type='Pretrained', checkpoint=..., trust=True)), or take "
            "a backbone's weights out: mimseg convert IN OUT.safetensors --trust",
        )
    return UserError(
        key,
        str(path),
        expected=f"a checkpoint that loads; the file is cut short or of another kind ({reason})",
        fix="copy or download it again, or name another one",
    )


def is_loadable(path: str | Path, trust: bool = False) -> bool:
    """Whether `path` is a whole checkpoint, as far as its structure tells.

    Raises:
        UntrustedCheckpoint: the file may well be whole, but holds code.
    """
    try:
        return bool(read_checkpoint(path, trust, mmap=True))
    except UntrustedCheckpoint:
        raise
    except UserError:
        return False


def find_resumable(work_dir: str | Path, trust: bool = False) -> str | None:
    """The newest checkpoint of a run (by its iteration or epoch) that loads, or None.

    One that does not load, such as one of a run killed while it wrote, is logged and skipped.

    Raises:
        UntrustedCheckpoint: one holds code. Skipping it would restart the run without a word.
    """
    work_dir = Path(work_dir).expanduser()
    named = _last_checkpoint(work_dir)
    folders = [work_dir] + ([named.parent] if named else [])
    for folder in dict.fromkeys(folders):
        for path in _numbered(folder, named):
            if is_loadable(path, trust):
                return str(path)
            print_log(f"{path} does not load; passed over", "current", logging.WARNING)
    return None


def _numbered(folder: Path, named: Path | None) -> list[Path]:
    """A folder's regular checkpoints, newest first.

    Epochs and iterations do not compare: where a folder has both, the kind that was written last
    goes first.
    """
    kind = named.name.partition("_")[0] if named else ""
    numbered = []
    for path in folder.glob("*_*.pth") if folder.is_dir() else ():
        match = _NUMBERED.match(path.name)
        if match:
            numbered.append((path.name.startswith(kind), int(match.group(1)), path))
    return [path for *_, path in sorted(numbered, reverse=True)]


def _last_checkpoint(work_dir: Path) -> Path | None:
    """The file that `last_checkpoint` names, in the work dir first: work dirs get moved."""
    try:
        text = (work_dir / "last_checkpoint").read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        return None
    if not text:
        return None
    written = Path(text)
    places = [work_dir / written.name, written]
    if not written.is_absolute():  # within the work dir (a stage's), or the directory of that run
        places.insert(0, work_dir / written)
    return next((path for path in places if path.is_file()), None)


def resolve_checkpoint(path: str | Path, key: str = "--init") -> str:
    """The checkpoint file that a user means by a file or a work dir.

    Of a work dir it is the one that its `last_checkpoint` names, else the newest that loads. A
    checkpoint with code in it counts like another: whoever reads it refuses or trusts it.

    Raises:
        UserError: no such path, or a folder without a checkpoint that loads.
    """
    path = Path(path).expanduser()
    if path.is_file():
        return str(path)
    expected = "a checkpoint file or a work dir with one"
    if not path.is_dir():
        raise UserError(key, str(path), expected=expected, fix="check the path; nothing is there")
    try:
        named = _last_checkpoint(path)
        if named and is_loadable(named):
            return str(named)
        newest = find_resumable(path)
    except UntrustedCheckpoint as error:
        newest = error.value
    if newest:
        return newest
    below = sorted(p.parent.name for p in path.glob("*/last_checkpoint"))
    fix = f"name one of its folders: {', '.join(below)}" if below else "has the run saved one yet?"
    raise UserError(
        key, str(path), expected=f"{expected}; this folder has none that loads", fix=fix
    )


def first_tensors(checkpoint: Mapping, containers: Sequence[str]) -> dict[str, Tensor]:
    """The tensors of a checkpoint's first container that has any, else those of the bare dict."""
    for candidate in [checkpoint.get(name) for name in containers] + [checkpoint]:
        if isinstance(candidate, Mapping):
            tensors = {str(k): v for k, v in candidate.items() if isinstance(v, Tensor)}
            if tensors:
                return tensors
    return {}
