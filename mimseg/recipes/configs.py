"""Finds the shipped configs by name, in a checkout and in an installed package; reads configs."""

from __future__ import annotations

import sys
from difflib import get_close_matches
from pathlib import Path
from tempfile import gettempdir
from typing import TYPE_CHECKING

from mimseg.errors import UserError
from mimseg.files import report_unwritable

if TYPE_CHECKING:
    from mmengine.config import Config

_PACKAGE = Path(__file__).resolve().parents[1]
# the wheel holds the configs inside the package, a checkout next to it
CHECKOUT = None if (_PACKAGE / "configs").is_dir() else _PACKAGE.parent
CONFIGS = (CHECKOUT or _PACKAGE) / "configs"


def config(name: str | Path) -> Config:
    """The whole config of a file, or of a shipped one by its name.

    Its `custom_imports` are imported; they may lie in the config's folder or in the current one.

    Raises:
        UserError: there is no such config, or a custom import fails.
    """
    from mmengine.config import Config

    path = find_config(name)
    with report_unwritable("TMPDIR", gettempdir()):  # mmengine copies what it reads
        cfg = Config.fromfile(path, import_custom_modules=False)
    import_custom_modules(cfg, path.parent)
    return cfg


def import_custom_modules(cfg: Config, folder: Path | None = None) -> None:
    """Import a config's `custom_imports`.

    Args:
        folder: where they may lie, besides the current folder and the installed packages.

    Raises:
        UserError: one cannot be imported.
    """
    from mmengine.utils import import_modules_from_strings

    if custom := cfg.get("custom_imports"):
        folders = ([] if folder is None else [str(folder.resolve())]) + [str(Path.cwd())]
        sys.path[:0] = [place for place in dict.fromkeys(folders) if place not in sys.path]
        try:
            import_modules_from_strings(**custom)
        except ImportError as error:
            cause = error.__context__ or error
            near = f"in {folder}, " if folder is not None else ""
            expected = f"modules {near}in the current folder or installed ({cause})"
            raise UserError("custom_imports", custom.imports, expected=expected) from error


def config_names() -> list[str]:
    """Names of the shipped configs, such as "mae/mae_vit-mini-p8_1xb64-40e_scenes", sorted."""
    paths = (path for path in CONFIGS.glob("[!_]*/*.py"))
    return sorted(path.relative_to(CONFIGS).with_suffix("").as_posix() for path in paths)


def find_config(name: str | Path, folder: str = "") -> Path:
    """The file of a config.

    Args:
        name: a path, or the name of a shipped config: with or without `configs/`, its folder and
            `.py`.
        folder: where shipped configs are looked for first.

    Raises:
        UserError: there is none, or several of that name.
    """
    path = Path(name).expanduser()
    return path if path.is_file() else shipped_config(name, folder)


def shipped_config(name: str | Path, folder: str = "") -> Path:
    """As `find_config`, but the name of a shipped config only."""
    path = Path(name)
    wanted = path.as_posix().removeprefix("configs/").removesuffix(".py")
    names = config_names()
    matches = [n for n in names if n in (wanted, f"{folder}/{wanted}")]
    matches = matches or [n for n in names if n.rsplit("/", 1)[1] == wanted]
    if len(matches) == 1:
        return CONFIGS / f"{matches[0]}.py"
    near = matches or [n for n in names if n.startswith(wanted)]
    near = near or get_close_matches(wanted, names, 5, 0.5)
    near = near or [n for n in names if n.rsplit("/", 1)[1].startswith(wanted.rsplit("/", 1)[-1])]
    fix = f"one of {', '.join(near[:5])}" if near else "`mimseg methods` lists those of the methods"
    raise UserError(
        "CONFIG", str(name), expected="a config file, or the name of a shipped config", fix=fix
    )
