"""Remembers which checkpoint files a user trusts, by their names."""

from __future__ import annotations

import os
import re
from pathlib import Path

from mimseg.errors import UserError

VARIABLE = "MIMSEG_TRUST"
_names: set[str] = set()


def trust(path: str | Path) -> None:
    """Let the code in one checkpoint file run when the file is loaded, whoever loads it.

    Otherwise a file with more than tensors and plain values is refused, and a config's text in it
    is not executed. For a command, `MIMSEG_TRUST=PATH[:PATH...]` in the environment does the same.

    Args:
        path: the file, or the address by which a config names it. It need not be there yet.

    Raises:
        UserError: a folder. Files are trusted one by one.
    """
    _names.add(_identity(path, "mimseg.trust"))


def is_trusted(*names: str | Path) -> bool:
    """Whether the user trusts a file that is known by any of these names."""
    listed = re.split(r":(?!//)", os.environ.get(VARIABLE, ""))  # addresses have a colon, too
    trusted = _names | {_identity(name, VARIABLE) for name in listed if name}
    return any(_identity(name) in trusted for name in names)


def _identity(name: str | Path, key: str = "") -> str:
    """What two names of one file have in common."""
    if "://" in str(name):
        return str(name)
    if key and os.path.isdir(os.path.expanduser(name)):
        raise UserError(key, str(name), expected="a checkpoint file", fix="name the files in it")
    return os.path.realpath(os.path.expanduser(name))
