"""Import modules by the names that they had before version 0.2.

Reason: code outside this repository (a teacher or a head in a user's own file) imports the types
and base classes. It can go with version 0.4.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Sequence
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

OLD_NAMES = {
    "mimseg.algorithms.outputs": "mimseg.outputs",
    "mimseg.checkpoints.shape": "mimseg.checkpoints.vit_shape",
    "mimseg.checkpoints.whole": "mimseg.checkpoints.loader",
    "mimseg.teachers.hub": "mimseg.teachers.weights",
    "mimseg.losses.per_position": "mimseg.losses.base",
    "mimseg.losses.smooth_l1": "mimseg.losses.regression",
    "mimseg.losses.l1": "mimseg.losses.regression",
    "mimseg.losses.l2": "mimseg.losses.regression",
    "mimseg.losses.info_nce": "mimseg.losses.cross_entropy",
    "mimseg.datasets": "mimseg.data",
    "mimseg.datasets.views": "mimseg.data.views",
    "mimseg.datasets.data_preprocessor": "mimseg.data.preprocessor",
    "mimseg.datasets.safe_loading": "mimseg.data.loading",
}


class OldNames(MetaPathFinder, Loader):
    """A finder and loader that gives a module of today for its old name, with a warning."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return a spec for an old name, None for any other."""
        if fullname not in OLD_NAMES:
            return None
        return ModuleSpec(fullname, self, is_package=fullname == "mimseg.datasets")

    def create_module(self, spec: ModuleSpec) -> None:
        """Let Python make the empty module."""

    def exec_module(self, module: ModuleType) -> None:
        """Fill the old module with the content of today's."""
        new = OLD_NAMES[module.__name__]
        warnings.warn(f"{module.__name__} is now {new}", DeprecationWarning, stacklevel=2)
        content = {k: v for k, v in vars(import_module(new)).items() if not k.startswith("__")}
        vars(module).update(content)


def install_old_names() -> None:
    """Install the finder once."""
    if not any(isinstance(finder, OldNames) for finder in sys.meta_path):
        sys.meta_path.append(OldNames())
