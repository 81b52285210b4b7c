"""`_base_ = ['mmseg::...']` in a config."""

from __future__ import annotations

from types import ModuleType


def name_mmseg(utils: ModuleType) -> None:
    """Let mmengine find mmseg's configs by the name of its module.

    Reason: mmengine.config.utils maps `mmseg` to the distribution `mmsegmentation`, which is now
    called `onedl-mmsegmentation`, so that every `mmseg::` base ends in "mmsegmentation is not
    installed". A module's name works whatever its distribution is called. It can go when
    onedl-mmengine knows the new name. `mimseg::` is not added: our configs are not in the package.

    Args:
        utils: the module mmengine.config.utils.
    """
    utils.MODULE2PACKAGE["mmseg"] = "mmseg"
