"""mimseg: masked image modeling pretraining, carried into dense prediction, on OpenMMLab.

What `__all__` names is imported when it is used: `import mimseg` loads neither torch nor OpenMMLab.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from mimseg.compat import install as _install_compat

if TYPE_CHECKING:
    from mimseg.algorithms.masked_image_modeling import MaskedImageModeling as MaskedImageModeling
    from mimseg.checkpoints.backbone import load as load
    from mimseg.checkpoints.trusted import trust as trust
    from mimseg.errors import UserError as UserError
    from mimseg.recipes.configs import config as config
    from mimseg.recipes.methods import methods as methods
    from mimseg.students.vit import ViT as ViT

__version__ = "0.2.0"
__all__ = ["MaskedImageModeling", "UserError", "ViT", "config", "load", "methods", "trust"]

_MODULES = {
    "MaskedImageModeling": "mimseg.algorithms.masked_image_modeling",
    "UserError": "mimseg.errors",
    "ViT": "mimseg.students.vit",
    "config": "mimseg.recipes.configs",
    "load": "mimseg.checkpoints.backbone",
    "methods": "mimseg.recipes.methods",
    "trust": "mimseg.checkpoints.trusted",
}

_install_compat()


def __getattr__(name: str) -> object:
    if name not in _MODULES:
        raise AttributeError(f"module 'mimseg' has no attribute {name!r}")
    return getattr(import_module(_MODULES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
