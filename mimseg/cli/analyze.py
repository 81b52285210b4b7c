"""mimseg analyze"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mimseg.cli.parsing import command_parser
from mimseg.errors import exit_code
from mimseg.files import report_unwritable

STOPPED = "stopped; the same command continues with the teachers that are left"


def main(argv: Sequence[str] | None = None) -> int:
    """Look at features. Returns 0, 2 after a user's mistake, 130 when stopped."""
    parser = command_parser(
        "analyze",
        "Look at features without training anything.",
        "analyze token-diversity --teachers configs/analysis/token_diversity.py --images DIR "
        "--out work_dirs/diversity",
    )
    commands = parser.add_subparsers(dest="command", required=True)
    diversity = commands.add_parser(
        "token-diversity",
        help="rank teachers by how unlike each other the tokens of an image are",
        description="Rank teachers by token diversity on a folder of images, and draw which "
        "patches each takes for alike. What OUT already has is kept, and so is what a killed run "
        "measured: the same command continues with the rest.",
    )
    diversity.add_argument(
        "--teachers",
        nargs="+",
        required=True,
        metavar="SOURCE",
        help="CONFIG or NAME=mimseg.TYPE,KEY=VALUE,..., such as "
        "configs/analysis/token_diversity.py",
    )
    add = diversity.add_argument
    add("--images", required=True, type=Path, help="folder, sub-folders included")
    add("--out", required=True, type=Path, help="folder for results and pictures")
    add("--limit", type=int, help="number of images, spread over all")
    add("--size", type=int, default=224, help="side of the view (224)")
    add("--pictures", type=int, default=4, help="images to draw maps of (4)")
    add("--batch-size", type=int, default=16)
    add("--workers", type=int, default=0, help="processes that read images (0)")
    add("--seed", type=int, default=0, help="of random teachers (0)")
    add("--device", help="cuda where there is one, else cpu")
    add("--force", action="store_true", help="measure again what OUT already has, and replace it")
    args = parser.parse_args(argv)

    def run() -> None:
        from mimseg.analysis import diversity

        with report_unwritable("--out", args.out):
            diversity.run(args)

    return exit_code(run, STOPPED)
