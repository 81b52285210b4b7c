"""mimseg check"""

from __future__ import annotations

from collections.abc import Sequence

from mimseg.cli.parsing import command_parser
from mimseg.errors import exit_code

KINDS = ("scenes", "ade20k", "coco", "imagenet", "folder")


def main(argv: Sequence[str] | None = None) -> int:
    """Check a data set. Returns 0 ready, 1 something is missing or damaged, 2 a mistake."""
    parser = command_parser(
        "check",
        "Report what a data set holds, what is missing, and which configs read it.",
        "check /data/ADEChallengeData2016",
    )
    parser.add_argument("root", metavar="ROOT", help="the data set's folder")
    parser.add_argument("--kind", choices=KINDS, help="recognized where it is left out")
    args = parser.parse_args(argv)

    def run() -> int:
        from mimseg.data.checks.check import check_data

        report = check_data(args.root, args.kind)
        print(report)
        return 0 if report.complete else 1

    return exit_code(run)
