"""Draws the report's pictures, of trained runs or of the data before any training.

    python -m mimseg.benchmark.panels KIND --run NAME=WORK_DIR [--run ...] --out DIR --count 4
    python -m mimseg.benchmark.panels KIND --config CONFIG --out DIR [--cfg-options KEY=VALUE ...]

KIND is pretrain, semseg or detection. Writes JPEGs and `panels.json`: note, column names, rows of
file names, and a legend of class names and colors.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from mimseg.benchmark import dense_panels, pretrain_panels
from mimseg.errors import exit_code
from mimseg.files import write_json
from mimseg.recipes.configs import find_config


def main(argv: list[str] | None = None) -> int:
    """Run the command line. Returns 0, or 2 after a user's mistake."""
    from mmengine.config import DictAction

    parser = argparse.ArgumentParser(description="draw the report's pictures")
    parser.add_argument("kind", choices=["pretrain", "semseg", "detection"])
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--run", action="append", default=[], metavar="NAME=WORK_DIR")
    source.add_argument("--config", help="draw its data: nothing is trained yet")
    parser.add_argument("--cfg-options", nargs="+", action=DictAction, default={})
    parser.add_argument("--images", type=Path, help="pretrain: held-out images to draw")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--count", type=int, default=4)
    args = parser.parse_args(argv)

    def run() -> None:
        runs = {name: Path(folder) for name, _, folder in (r.partition("=") for r in args.run)}
        args.out.mkdir(parents=True, exist_ok=True)
        config = find_config(args.config) if args.config else None
        if args.kind == "pretrain" and config:
            panels = pretrain_panels.draw_data(
                config, args.cfg_options, args.out, args.count, args.images
            )
        elif args.kind == "pretrain":
            (folder,) = runs.values()
            panels = pretrain_panels.draw_run(folder, args.out, args.count, args.images)
        else:
            kind = dense_panels.KINDS[args.kind]
            if config:
                panels = dense_panels.draw_data(
                    kind, config, args.cfg_options, args.out, args.count
                )
            else:
                panels = dense_panels.draw_runs(kind, runs, args.out, args.count)
        write_json(args.out / "panels.json", {"kind": args.kind, **panels})

    return exit_code(run)


if __name__ == "__main__":
    sys.exit(main())
