"""Run a function on a module right after somebody imports it."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType


class MendOnImport(MetaPathFinder):
    """A finder that finds nothing itself: it lets the others find, and mends after the import.

    Attributes:
        mends: module name -> "module:function", the function that is given the imported module.
    """

    def __init__(self) -> None:
        self.mends: dict[str, str] = {}

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return the other finders' spec of a module to be mended, None for every other module."""
        if fullname not in self.mends:
            return None
        for finder in sys.meta_path:
            find = getattr(finder, "find_spec", None)
            spec = find(fullname, path, target) if find and finder is not self else None
            if spec is not None and spec.loader is not None:
                self._add_mend(spec, self.mends[fullname])
                return spec
        return None

    @staticmethod
    def _add_mend(spec: ModuleSpec, mend: str) -> None:
        execute = spec.loader.exec_module

        def exec_module(module: ModuleType) -> None:
            execute(module)
            apply_mend(mend, module)

        spec.loader.exec_module = exec_module  # this module's loader alone: specs do not share one


def apply_mend(mend: str, module: ModuleType) -> None:
    """Call the function named "module:function" on `module`."""
    where, name = mend.split(":")
    getattr(import_module(where), name)(module)


_finder = MendOnImport()


def when_imported(module: str, mend: str) -> None:
    """Have `mend` called on `module`: now if it is imported already, else when it is.

    Args:
        module: the full name of the module to be mended.
        mend: "module:function". The function takes the module. Asking twice does nothing.
    """
    if module in _finder.mends:
        return
    _finder.mends[module] = mend
    if _finder not in sys.meta_path:
        sys.meta_path.insert(0, _finder)
    if module in sys.modules:
        apply_mend(mend, sys.modules[module])
