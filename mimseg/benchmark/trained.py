"""Loads the configs, models and data of runs, for pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mimseg.errors import UserError
from mimseg.files import read_json
from mimseg.recipes.configs import config as read_config
from mimseg.recipes.configs import import_custom_modules


def read_run_config(path: Path, options: dict[str, Any]) -> Any:
    """A config as a training would read it, in its own scope.

    Args:
        options: dotted settings that replace the config's.
    """

    from mimseg.engine.prepare import merge_options

    config = read_config(path)
    merge_options(config, options)
    return _enter_scope(config)


def load_run(folder: Path) -> tuple[Any, Path]:
    """The config that a finished run was trained with, and its checkpoint.

    The config is in the work dir, which may be somebody else's: its text is parsed, not executed.

    Raises:
        UserError: the run is not finished or its config is gone.
    """
    from mmengine.config import Config

    from mimseg.checkpoints.written_config import parse_config

    done = read_json(folder / "done.json")
    if not isinstance(done, dict) or not done.get("checkpoint"):
        raise UserError(
            "--run", str(folder), expected="the work dir of a finished run with a checkpoint"
        )
    checkpoint = folder / done["checkpoint"]
    configs = sorted(checkpoint.parent.glob("*.py"), key=lambda path: path.stat().st_mtime)
    if not configs:
        raise UserError("--run", str(folder), expected=f"a config in {checkpoint.parent}")
    values = parse_config(configs[-1].read_text(encoding="utf-8"))
    if "model" not in values:
        expected = "a config as a training writes it: plain values, with a model"
        raise UserError("--run", str(configs[-1]), expected=expected, fix="train again")
    config = Config(values)
    import_custom_modules(config)
    return _enter_scope(config), checkpoint


def load_model(config: Any, checkpoint: Path, initialize: bool = False) -> Any:
    """The run's model in eval mode.

    Args:
        initialize: run init_weights first, which also loads teachers that are not saved.
    """
    from mmengine.registry import MODELS

    from mimseg.checkpoints.files import read_checkpoint
    from mimseg.checkpoints.loader import load_whole, weights_in

    model = MODELS.build(config.model)
    if initialize:
        model.init_weights()
    path, key = str(checkpoint), "checkpoint"
    weights = weights_in(read_checkpoint(path), path, key)
    load_whole(model, weights, path, key, "run the benchmark again: the config has changed")
    return model.eval()


def spread(length: int, count: int) -> list[int]:
    """`count` indices, spread evenly over a dataset of `length`."""
    count = min(length, count)
    return [(2 * i + 1) * length // (2 * count) for i in range(count)]


def _enter_scope(config: Any) -> Any:
    from mmengine.registry import init_default_scope

    init_default_scope(config.get("default_scope", "mmengine"))
    return config
