"""The models of the repository's own recipes."""

from __future__ import annotations

from pathlib import Path

from mmengine.config import Config, ConfigDict

from mimseg.errors import UserError

_FOLDER = Path(__file__).resolve().parents[3] / "configs"


def model_of(name: str) -> ConfigDict:
    """The model of a config, by its name in configs/ without the suffix.

    Raises:
        UserError: it is not there, as in an installed package.
    """
    path = _FOLDER / f"{name}.py"
    if not path.is_file():
        raise UserError(
            "config", str(path), expected="a file of the repository", fix="run it from a checkout"
        )
    return Config.fromfile(path).model
