"""mimseg scenes"""

from __future__ import annotations

import os
from collections.abc import Sequence

from mimseg.cli.parsing import command_parser
from mimseg.errors import exit_code
from mimseg.files import report_unwritable

SPLITS = ("train", "val", "test", "unlabelled")


def main(argv: Sequence[str] | None = None) -> int:
    """Draw labeled scenes. Returns the exit code."""
    parser = command_parser(
        "scenes",
        "Draw synthetic scenes as an image folder, in ADE20K's layout and in COCO's.",
        "scenes data/scenes --train 150 --val 300 --unlabelled 5000",
    )
    parser.add_argument("out", metavar="OUT", help="folder to make")
    for split in SPLITS:
        parser.add_argument(f"--{split}", type=int, default=0, metavar="N", help="number of images")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--size", type=int, default=96, help="side of the images in pixels")
    parser.add_argument(
        "--set", nargs="*", default=[], metavar="NAME=VALUE", help="fields of SceneConfig"
    )
    parser.add_argument("--workers", type=int, default=min(8, os.cpu_count() or 1))
    parser.add_argument("--force", action="store_true", help="replace scenes of other arguments")
    args = parser.parse_args(argv)

    def run() -> None:
        from mimseg.data.scenes.write import scene_config, write_scenes

        config = scene_config(args.set, size=args.size)
        counts = {split: getattr(args, split) for split in SPLITS}
        with report_unwritable("OUT", args.out):
            made = write_scenes(
                args.out, counts, args.seed, config, workers=args.workers, force=args.force
            )
        print(f"{args.out}: {'written' if made else 'already there, with the same arguments'}")

    return exit_code(run)
