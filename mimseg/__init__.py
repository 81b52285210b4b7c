"""mimseg: masked image modelling pretraining, carried into dense prediction, on OpenMMLab."""

from mimseg.compat import install as _install_compat

__version__ = "0.1.0"

_install_compat()


def __getattr__(name: str) -> object:
    if name == "load":
        from mimseg.checkpoints.backbone import load

        return load
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
