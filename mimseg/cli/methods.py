"""mimseg methods"""

from __future__ import annotations

from collections.abc import Sequence

from mimseg.cli.parsing import command_parser
from mimseg.errors import exit_code


def main(argv: Sequence[str] | None = None) -> int:
    """List the methods. Returns the exit code."""
    parser = command_parser(
        "methods", "List the methods: name, paper, and the config to start from.", "methods"
    )
    parser.parse_args(argv)

    def run() -> None:
        from mimseg.recipes.methods import find_methods

        methods = find_methods()
        width = max(len(method.name) for method in methods)
        for method in methods:
            paper = f"arXiv {method.paper}" if method.paper else "ours"
            print(f"{method.name:{width}}  {paper:16}  {method.config}")

    return exit_code(run)
