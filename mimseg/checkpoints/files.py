"""Reads checkpoint files without running code, and finds the right one in a work dir."""

from __future__ import annotations

import logging
import os
import re
import zipfile
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from pickle import UnpicklingError
from typing import BinaryIO

import numpy as np
import torch
from mmengine.logging import HistoryBuffer, print_log
from torch import Tensor

from mimseg.checkpoints import shards
from mimseg.checkpoints.checksum import damage
from mimseg.checkpoints.iteration import training_step
from mimseg.checkpoints.trusted import is_trusted
from mimseg.errors import UserError

_NUMBERED = re.compile(r"(?:epoch|iter|step)_\d+\.pth")
_GLOBAL = re.compile(r"GLOBAL ([\w.]+)")
_SCALARS = "?bhilqBHILQefd"  # numpy's type characters: bool, integers, floats
_REPLACE = "copy or download it again, or name another one"
_TRUST = (
    "if you trust its origin, load it with --trust, MIMSEG_TRUST=PATH or mimseg.trust(PATH) (in a "
    "config: trust=True in the teacher, or in init_cfg=dict(type='Pretrained', checkpoint=..., "
    "trust=True)), or take a backbone's weights out: mimseg convert IN OUT.safetensors --trust"
)


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
    """Read a checkpoint onto the CPU; code in it is never run unless the user trusts the file.

    Args:
        path: a `.safetensors` file, or what `torch.save` wrote.
        trust: unpickle whatever the file holds. Only for files whose origin you know. A file that
            was named to `mimseg.trust` or in MIMSEG_TRUST needs no more.
        mmap: map the tensors instead of reading them all.
        key: the config key or flag that an error names.

    Returns:
        The dict in the file. A pickled module or a TorchScript archive (with `trust` only) comes
        back as {"state_dict": its weights}.

    Raises:
        UserError: no such file, not a checkpoint, not as it was saved (by its checksum, see
            `checksum.damage`), or more than data without trust.
    """
    path = Path(path).expanduser()
    if not path.is_file():
        raise UserError(
            key, str(path), expected="an existing checkpoint file", fix="check the path"
        )
    require_whole(path, key)
    return _read(path, trust, mmap, key)


def require_whole(path: str | Path, key: str) -> None:
    """Raise UserError for a file that is not as it was saved."""
    if reason := damage(path):
        raise UserError(key, str(path), expected=f"an undamaged checkpoint; {reason}", fix=_REPLACE)


def _read(path: Path, trust: bool, mmap: bool, key: str) -> dict:
    try:
        loaded = load_data(path, trust or is_trusted(path), mmap=mmap)
    except (MemoryError, UserError):
        raise
    except Exception as error:
        raise refusal(key, str(path), error) from error
    if hasattr(loaded, "state_dict"):
        loaded = {"state_dict": loaded.state_dict()}
    if not isinstance(loaded, dict):
        what = f"a checkpoint, a dict with weights; the file holds a {type(loaded).__name__}"
        raise UserError(key, str(path), expected=what)
    return loaded


def load_data(
    source: str | Path | BinaryIO, trust: bool, *, mmap: bool = False, map_location: object = "cpu"
) -> object:
    """What a file or stream holds: tensors, plain values, mmengine's log buffers, no other objects.

    Raises:
        Exception: whatever torch raises; see `refusal`.
    """
    if str(source).endswith(".safetensors"):
        from safetensors.torch import load_file

        return load_file(source)
    loaded = _load(source, mmap, map_location=map_location, weights_only=not trust)
    if isinstance(loaded, dict) and shards.KEY in loaded:
        if hasattr(source, "read"):
            expected = f"a file that is named: its tensors are in {loaded[shards.KEY]['folder']}"
            raise UserError("checkpoint", "a stream", expected=expected, fix="give its path")
        shards.fill(loaded, Path(source))
    return loaded


def _load(source: str | Path | BinaryIO, mmap: bool, **options: object) -> object:
    with plain_objects(not options["weights_only"]):
        if mmap:
            try:
                return torch.load(source, mmap=True, **options)
            except RuntimeError:
                pass  # torch's old format, which cannot be mapped; a broken file fails again below
        return torch.load(source, **options)


def plain_objects(trust: bool = False) -> AbstractContextManager:
    """A block in which torch's weights-only reader takes what mmengine puts into a checkpoint."""
    return torch.serialization.safe_globals([] if trust else _allowed_globals())


def refusal(key: str, name: str, error: Exception, fix: str | None = None) -> UserError:
    """The error of a checkpoint that torch could not read, or was not allowed to.

    Args:
        key: the config key or flag at fault.
        name: the file.
        error: torch's.
        fix: how to trust the file, where its reader offers other ways than `read_checkpoint`.
    """
    text = str(error).strip()
    reason = text.partition("WeightsUnpickler error:")[2].strip() or text or type(error).__name__
    reason = reason.splitlines()[0][:160]
    if isinstance(error, (AttributeError, ImportError)):  # trusted, and its code is not here
        expected = f"a file whose code can be imported ({reason})"
        fix = "put that code on PYTHONPATH, or have the file saved again with its weights alone"
        return UserError(key, name, expected=expected, fix=fix)
    code = _GLOBAL.search(text)
    script = "TorchScript" in text
    # in a whole archive, what the unpickler refuses is foreign and not damaged
    if code or script or (isinstance(error, UnpicklingError) and zipfile.is_zipfile(name)):
        holds = f"the code of {code.group(1)}" if code else f"objects ({reason})"
        return UntrustedCheckpoint(
            key,
            name,
            expected="a file of tensors and plain values; this one also holds "
            + ("a TorchScript program" if script else holds),
            fix=fix or _TRUST,
        )
    expected = f"a checkpoint that loads; the file is cut short or of another kind ({reason})"
    return UserError(key, name, expected=expected, fix=_REPLACE)


def fault(path: str | Path, trust: bool = False) -> str:
    """Why a file is not a checkpoint as it was saved, or "" where nothing speaks against it.

    Raises:
        UntrustedCheckpoint: the file may well be whole, but holds code.
    """
    path = Path(path)
    if reason := damage(path):
        return reason
    try:
        return "" if _read(path, trust, True, "checkpoint") else "it is empty"
    except UntrustedCheckpoint:
        raise
    except UserError:
        return "it does not load"


def checkpoint_folder(cfg: Mapping, work_dir: str | Path | None = None) -> Path:
    """Where a training puts its checkpoints: its work dir, or below the hook's `out_dir`.

    Args:
        cfg: the training's config.
        work_dir: of a stage; None for the config's.
    """
    work_dir = Path(work_dir or cfg["work_dir"]).expanduser()
    hook = (cfg.get("default_hooks") or {}).get("checkpoint") or {}
    out_dir = hook.get("out_dir")
    return Path(out_dir).expanduser() / work_dir.name if out_dir else work_dir  # mmengine's rule


def find_resumable(
    work_dir: str | Path, trust: bool = False, folder: str | Path | None = None
) -> str | None:
    """The newest whole checkpoint of a run, by the training iteration in it, or None.

    Those that a training writes to go on from count: `epoch_N.pth`, `iter_N.pth`, `step_N.pth`. One
    that is damaged, such as one of a disk that failed, is logged and skipped. `last_checkpoint` is
    not needed; where it names a file elsewhere this is logged and not followed, because a work dir
    may be somebody else's.

    Args:
        work_dir: the run's folder.
        trust: a checkpoint with code in it will be run.
        folder: where the checkpoints are, if not in the work dir: see `checkpoint_folder`.

    Raises:
        UntrustedCheckpoint: the newest holds code. Skipping it would restart the run.
    """
    work_dir = Path(work_dir).expanduser()
    folder = Path(folder).expanduser() if folder else work_dir
    _pointed(work_dir, folder)
    return _newest(folder, trust)


def _newest(folder: Path, trust: bool = False, named: Path | None = None) -> str | None:
    """A folder's newest whole checkpoint; see `find_resumable`.

    `named` is one that the caller takes, or reports, where there is none with an iteration.
    """
    steps = []
    for path in numbered(folder):
        if step := training_step(path):
            steps.append((step, not path.name.startswith("step_"), path))
        elif path != named:
            _pass_over(path, damage(path) or "it holds no training iteration (meta.iter)")
    # of two with equal steps the regular one, which is saved after the interim one
    for *_, path in sorted(steps, reverse=True):
        reason = fault(path, trust)
        if not reason:
            return str(path)
        _pass_over(path, reason)
    return None


def numbered(folder: Path) -> list[Path]:
    """The checkpoints that a training has written to go on from, by name."""
    paths = sorted(folder.glob("*_*.pth")) if folder.is_dir() else []
    return [path for path in paths if _NUMBERED.fullmatch(path.name) and path.is_file()]


def _pass_over(path: Path, reason: str) -> None:
    print_log(f"{path} is passed over: {reason}", "current", logging.WARNING)


def _pointed(work_dir: Path, folder: Path) -> Path | None:
    """The file in a folder that the work dir's `last_checkpoint` names.

    Its name in the folder counts, since work dirs get moved, or a path below it (a stage's). One
    elsewhere is logged.
    """
    try:
        text = (work_dir / "last_checkpoint").read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        return None
    if not text:
        return None
    for path in (folder / text, folder / Path(text).name):
        inside = Path(os.path.abspath(path)).is_relative_to(os.path.abspath(folder))
        if inside and path.is_file():
            return path
    if any(path.is_file() for path in (work_dir / text, Path(text))):
        print_log(
            f"{work_dir}/last_checkpoint names {text}, which is outside of {folder}: not followed. "
            "To use that file, copy it into the folder, or name it itself (--init, load_from)",
            "current",
            logging.WARNING,
        )
    return None


def resolve_checkpoint(path: str | Path, key: str = "--init") -> str:
    """The checkpoint file that a user means by a file or a work dir.

    Of a work dir it is the newest whole one, as in `find_resumable`. Where the folder has none
    itself, its `last_checkpoint` may name one in it, or a stage's folder, whose newest is taken. A
    checkpoint with code in it counts like another: whoever reads it refuses or trusts it.

    Raises:
        UserError: no such path, or a folder without a whole checkpoint.
    """
    path = Path(path).expanduser()
    if path.is_file():
        return str(path)
    expected = "a checkpoint file or a work dir with one"
    if not path.is_dir():
        raise UserError(key, str(path), expected=expected, fix="check the path; nothing is there")
    try:
        named = _pointed(path, path)
        newest = _newest(path, named=named)
        if newest is None and named is not None:
            newest = _newest(named.parent, named=named) if named.parent != path else None
            if newest is None and (reason := fault(named, False)):
                _pass_over(named, reason)
            elif newest is None:
                newest = str(named)
    except UntrustedCheckpoint as error:
        newest = error.value
    if newest:
        return newest
    below = sorted(p.parent.name for p in path.glob("*/last_checkpoint"))
    fix = f"name one of its folders: {', '.join(below)}" if below else "has the run saved one yet?"
    if numbered(path):
        fix = "the warnings say what is wrong with those in it"
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
