"""Makes the report's pictures from trained runs.

    python -m mimseg.benchmark.panels KIND --run NAME=WORK_DIR [--run ...] --out DIR --count 4

KIND is pretrain, semseg or detection. Writes JPEGs and `panels.json`: title, note, column names,
rows of file names, and a legend of class names and colours.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from mimseg.errors import UserError
from mimseg.files import read_json, write_json


def load_run(folder: Path) -> tuple[Any, Path]:
    """The config that a finished run was trained with, and its checkpoint.

    Raises:
        UserError: the run is not finished or its config is gone.
    """
    from mmengine.config import Config
    from mmengine.registry import init_default_scope

    done = read_json(folder / "done.json")
    if not isinstance(done, dict) or not done.get("checkpoint"):
        raise UserError(
            "--run", str(folder), expected="the work dir of a finished run with a checkpoint"
        )
    checkpoint = folder / done["checkpoint"]
    configs = sorted(checkpoint.parent.glob("*.py"), key=lambda path: path.stat().st_mtime)
    if not configs:
        raise UserError("--run", str(folder), expected=f"a config in {checkpoint.parent}")
    config = Config.fromfile(configs[-1])
    init_default_scope(config.get("default_scope", "mmengine"))
    return config, checkpoint


def load_model(config: Any, checkpoint: Path, initialise: bool = False) -> Any:
    """The run's model in eval mode.

    Args:
        initialise: run init_weights first, which also loads teachers that are not saved.
    """
    from mmengine.registry import MODELS

    from mimseg.checkpoints.files import read_checkpoint
    from mimseg.checkpoints.loader import load_whole, weights_in

    model = MODELS.build(config.model)
    if initialise:
        model.init_weights()
    path, key = str(checkpoint), "checkpoint"
    weights = weights_in(read_checkpoint(path), path, key)
    load_whole(model, weights, path, key, "run the benchmark again: the config has changed")
    return model.eval()


def evenly(length: int, count: int) -> list[int]:
    """`count` indices, spread over a dataset of `length`."""
    count = min(length, count)
    return [(2 * i + 1) * length // (2 * count) for i in range(count)]


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="make the report's pictures")
    parser.add_argument("kind", choices=["pretrain", "semseg", "detection"])
    parser.add_argument("--run", action="append", required=True, metavar="NAME=WORK_DIR")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--count", type=int, default=4)
    args = parser.parse_args(argv)
    runs = {name: Path(folder) for name, _, folder in (item.partition("=") for item in args.run)}
    from mimseg.benchmark import dense_panels, pretrain_panels

    kinds = {
        "pretrain": pretrain_panels.draw,
        "semseg": dense_panels.draw_semseg,
        "detection": dense_panels.draw_detection,
    }
    args.out.mkdir(parents=True, exist_ok=True)
    try:
        panels = kinds[args.kind](runs, args.out, args.count)
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    write_json(args.out / "panels.json", {"kind": args.kind, **panels})
    return 0


if __name__ == "__main__":
    sys.exit(main())
