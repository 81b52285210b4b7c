"""The command line of tools/analyze.py."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from mimseg.errors import exit_code


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line. Returns 0, 2 after a user's mistake, 130 when stopped."""
    from mimseg.analysis import diversity_command

    parser = argparse.ArgumentParser(description="Look at features without training anything.")
    commands = parser.add_subparsers(dest="command", required=True)
    diversity = commands.add_parser(
        "token-diversity",
        help="rank teachers by how unlike each other the tokens of an image are",
        description="Rank teachers by token diversity on a folder of images, and draw which "
        "patches each finds alike. What OUT already has is kept, and so is what a killed run "
        "measured: the same command goes on with the rest.",
    )
    diversity_command.add_arguments(diversity)
    args = parser.parse_args(argv)
    stopped = "stopped; the same command goes on with the teachers that are left"
    return exit_code(lambda: diversity_command.run(args), stopped)
