"""mimseg: masked image modelling pretraining, carried into dense prediction, on OpenMMLab."""

from mimseg.compat import install as _install_compat

__version__ = "0.1.0"

_install_compat()
