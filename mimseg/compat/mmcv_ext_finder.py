"""Offer mimseg's stand-in when somebody imports `mmcv._ext` and no compiled one exists."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import spec_from_file_location
from pathlib import Path
from types import ModuleType


class MmcvExtFinder(MetaPathFinder):
    """Finds `mmcv._ext` in `mmcv_ext.py` beside this file. It stands last, so a compiled one wins.

    Reason: onedl-mmcv comes as source; built in isolation it sees no torch and leaves its compiled
    ops out, and mmdet imports them without a guard. It can go when the package index has wheels
    with compiled ops for every supported Python and torch.
    """

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return the stand-in's spec for `mmcv._ext`, None for every other module."""
        if fullname != "mmcv._ext":
            return None
        return spec_from_file_location(fullname, Path(__file__).with_name("mmcv_ext.py"))


def install_finder() -> None:
    """Append the finder to `sys.meta_path`, once."""
    if not any(isinstance(finder, MmcvExtFinder) for finder in sys.meta_path):
        sys.meta_path.append(MmcvExtFinder())
