"""`_base_ = ['mmseg::...']` and `_base_ = ['mimseg::...']` in a config."""

from __future__ import annotations

from types import ModuleType

from mimseg.recipes.configs import CONFIGS, shipped_config


def name_mmseg(utils: ModuleType) -> None:
    """Let mmengine find mmseg's configs by the name of its module.

    Reason: mmengine.config.utils maps `mmseg` to the distribution `mmsegmentation`, which is now
    called `onedl-mmsegmentation`, so that every `mmseg::` base ends in "mmsegmentation is not
    installed". A module's name works whatever its distribution is called. It can go when
    onedl-mmengine knows the new name.

    Args:
        utils: the module mmengine.config.utils.
    """
    utils.MODULE2PACKAGE["mmseg"] = "mmseg"


def find_mimseg(config: ModuleType) -> None:
    """Let mmengine find this package's configs behind `mimseg::`.

    Reason: mmengine looks for a package's configs in its `.mim` folder, which a checkout does not
    have, and marks every dict of such a base with a `_scope_`, which ours do not need: they write
    the scope of every type. It can go when mmengine lets a package say where its configs are.

    Args:
        config: the module mmengine.config.config.
    """
    get_path = config.Config._get_cfg_path

    def get_cfg_path(cfg_path: str, filename: str) -> tuple[str, str | None]:
        if not cfg_path.startswith("mimseg::"):
            return get_path(cfg_path, filename)
        name = cfg_path.removeprefix("mimseg::")
        path = CONFIGS / name  # of any kind, _base_/ too
        return str(path if path.is_file() else shipped_config(name)), None

    config.Config._get_cfg_path = staticmethod(get_cfg_path)
