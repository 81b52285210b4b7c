"""Writes the tensors of a checkpoint in parts, one file per process, and reads them whole.

`epoch_1.pth` then holds everything but the tensors, and the name of the folder that they are in.
They are safetensors files of torch.distributed.checkpoint: nothing in them is unpickled, which
torch's own format asks for.
"""

from __future__ import annotations

import math
import shutil
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.distributed import ProcessGroup

from mimseg.errors import UserError
from mimseg.files import flush, saving

KEY = "shards"  # of a checkpoint: the name of its folder
_OPTIMIZER = "optimizer"


@dataclass
class Shards:
    """What goes into the folder of one checkpoint.

    Args:
        folder: where the parts will be in the end.
        optimizer: the optimizer's state goes into it.
        group: a group of processes with a CPU backend, which agree on who writes what.
        tensors: name -> DTensor, on every process, or whole tensor, on one.
    """

    folder: Path
    optimizer: bool = True
    group: ProcessGroup | None = None
    tensors: dict[str, Tensor] = field(default_factory=dict)

    @property
    def temporary(self) -> Path:
        """Where all write: one place for both folders, whichever of them a process sees."""
        return saving(self.folder.with_suffix(".shards"))

    def write(self, in_background: bool = False) -> Callable[[], object]:
        """Write this process's part into the temporary folder; all processes take part.

        Returns:
            What waits until the parts of all processes are there, and raises what went wrong.

        Raises:
            OSError: a process could not write.
        """
        from torch.distributed import checkpoint

        writer = checkpoint.HuggingFaceStorageWriter(str(self.temporary), save_distributed=True)
        options = dict(storage_writer=writer, process_group=self.group)
        if in_background:  # the tensors are copied when it returns
            return partial(_plain, checkpoint.async_save(self.tensors, **options).result)
        _plain(partial(checkpoint.save, self.tensors, **options))
        return lambda: None

    def move(self) -> Path:
        """Put the folder in its place, when it is whole; returns it."""
        for part in self.temporary.iterdir():
            flush(part)
        self.temporary.rename(self.folder)
        flush(self.folder.parent)
        return self.folder


def _plain(act: Callable[[], object]) -> None:
    """Raise what is behind torch's error, which is one of all processes."""
    from torch.distributed.checkpoint import CheckpointException

    try:
        act()
    except CheckpointException as error:
        causes = [cause for cause, _ in error.failures.values()]
        raise next((c for c in causes if isinstance(c, OSError)), causes[0]) from error


def folder_for(path: Path) -> Path:
    """Where a new checkpoint puts its tensors: never where an older one of its name has them."""
    first, second = _folders(path)
    return second if first.exists() else first


def folders_of(path: Path) -> list[Path]:
    """The folders with tensors beside a checkpoint; one is of an older one, or of none."""
    return [folder for folder in _folders(path) if folder.is_dir()]


def remove_unused(folder: Path, named: Callable[[Path], str | None]) -> None:
    """Remove tensors whose checkpoint is gone or has others.

    Args:
        folder: of the checkpoints.
        named: the folder that a checkpoint names, or None where that is not known.
    """
    for shards in folder.glob("*.shards*"):
        checkpoint = folder / f"{shards.name.partition('.shards')[0]}.pth"
        if not checkpoint.exists() or named(checkpoint) not in (None, shards.name):
            shutil.rmtree(shards)


def _folders(path: Path) -> tuple[Path, Path]:
    return path.with_suffix(".shards"), path.with_suffix(".shards-2")


def take(checkpoint: dict, folder: Path) -> None:
    """Leave None in a checkpoint for each tensor of its weights and of its optimizer's state."""
    shapes = {}
    for name, table, key, value in _places(checkpoint):
        shapes[name], table[key] = list(value.shape), None
    checkpoint[KEY] = {"folder": folder.name, "shapes": shapes}


def tensors_of(checkpoint: Mapping[str, Any]) -> dict[str, Tensor]:
    """Name -> tensor of a checkpoint's weights and of its optimizer's state."""
    return {name: value for name, _, _, value in _places(checkpoint)}


def _places(checkpoint: Mapping[str, Any]) -> Iterator[tuple[str, dict, Any, Tensor]]:
    """Name, dict, key and tensor."""
    tables = {"state_dict": checkpoint.get("state_dict") or {}}
    states = (checkpoint.get(_OPTIMIZER) or {}).get("state") or {}
    tables |= {f"{_OPTIMIZER}/{index}": state for index, state in states.items()}
    for name, table in tables.items():
        for key, value in list(table.items()):
            if isinstance(value, Tensor):
                yield f"{name}/{key}", table, key, value


def fill(checkpoint: dict, path: Path, key: str = "checkpoint") -> None:
    """Put a checkpoint's tensors, read whole onto the CPU, where `take` left None.

    Args:
        checkpoint: what is in the file `path`.
        path: of the file.
        key: the config key or flag that an error names.

    Raises:
        UserError: the folder is missing, or is not of this checkpoint.
    """
    about = checkpoint.pop(KEY)
    folder = path.with_name(Path(about["folder"]).name)
    if not folder.is_dir():
        raise UserError(
            key,
            str(path),
            expected=f"its tensors in {folder.name} beside it",
            fix="copy that folder along",
        )
    tensors = _read(folder, about["shapes"], key)
    states = (checkpoint.get(_OPTIMIZER) or {}).get("state") or {}
    for name, tensor in tensors.items():
        part, _, entry = name.partition("/")
        if part == _OPTIMIZER:
            index, _, entry = entry.partition("/")
            states[int(index)][entry] = tensor
        else:
            checkpoint[part][entry] = tensor


def _read(folder: Path, shapes: Mapping[str, list[int]], key: str) -> dict[str, Tensor]:
    from torch.distributed import checkpoint

    known = checkpoint.HuggingFaceStorageReader(str(folder)).read_metadata().state_dict_metadata
    for name, shape in shapes.items():
        chunks = known[name].chunks if name in known else ()
        if sum(math.prod(chunk.sizes) for chunk in chunks) != math.prod(shape):
            raise UserError(
                key,
                str(folder),
                expected=f"the parts of all processes; not all of {name} is there",
                fix="copy the folder again",
            )
    tensors = {
        name: torch.empty(shape, dtype=known[name].properties.dtype)
        for name, shape in shapes.items()
    }
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="torch.distributed is disabled")
        reader = checkpoint.HuggingFaceStorageReader(str(folder))
        checkpoint.load(tensors, storage_reader=reader, no_dist=True)
    return tensors
