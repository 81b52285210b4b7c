"""mimseg doctor"""

from __future__ import annotations

from collections.abc import Sequence

from mimseg.cli.parsing import command_parser
from mimseg.errors import exit_code


def main(argv: Sequence[str] | None = None) -> int:
    """Look at this machine. Returns 0, or 1 where something that a training needs is missing."""
    parser = command_parser(
        "doctor",
        "Report in a few seconds what this machine has, what will not work and what will be slow.",
        "doctor work_dirs",
    )
    parser.add_argument(
        "work_dir", metavar="WORK_DIR", nargs="?", default="work_dirs", help="where runs write"
    )
    args = parser.parse_args(argv)

    def run() -> int:
        from mimseg.engine.doctor import MISSING, examine, report

        findings = examine(args.work_dir)
        print(report(findings))
        return int(any(finding.state == MISSING for finding in findings))

    return exit_code(run)
