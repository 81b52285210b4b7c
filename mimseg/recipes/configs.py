"""Finds the shipped configs by name, in a checkout and in an installed package."""

from __future__ import annotations

from difflib import get_close_matches
from pathlib import Path

from mimseg.errors import UserError

_PACKAGE = Path(__file__).resolve().parents[1]
# the wheel holds them inside the package, a checkout beside it
CONFIGS = next(
    (p for p in (_PACKAGE / "configs", _PACKAGE.parent / "configs") if p.is_dir()),
    _PACKAGE / "configs",
)


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
    if path.is_file():
        return path
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
