"""The command line of tools/methods.py."""

from __future__ import annotations

import argparse
from pathlib import Path

from mimseg.errors import exit_code


def main(argv: list[str] | None = None, root: Path | None = None) -> int:
    """Run the command line. Returns 0, 1 after a failed run, 2 after a user's mistake."""
    root = root or Path(__file__).resolve().parents[3]
    args = parse(argv, root)
    return exit_code(lambda: run(args, root))


def parse(argv: list[str] | None, root: Path) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description="Build each method's slots small and print the table of them."
    )
    parser.add_argument(
        "--write", action="store_true", help="also write README.md's table and docs/methods.md"
    )
    commands = parser.add_subparsers(dest="command")
    train = commands.add_parser(
        "train",
        help="train each method at small size and write docs/methods.md; after a kill, the same "
        "command continues with the rest",
    )
    train.add_argument("--out", type=Path, default=root / "work_dirs" / "methods")
    train.add_argument("--steps", type=int, default=150, help="per method, all its stages together")
    train.add_argument("--data", type=Path, help="a folder of images instead of generated scenes")
    train.add_argument("--seed", type=int, default=0)
    train.add_argument("--workers", type=int, help="methods that train at once (2)")
    train.add_argument("--methods", nargs="+", metavar="NAME", help="only these")
    train.add_argument("--records", type=Path, default=root / "docs" / "methods")
    return parser.parse_args(argv)


def run(args: argparse.Namespace, root: Path) -> int:
    """Run a command with parsed arguments.

    Raises:
        UserError: a config that does not build, or a mistake in the arguments.
    """
    from dev.methods.page import write_page
    from dev.methods.table import markdown, rows, write_table

    if args.command == "train":
        from dev.methods.train import train_all

        records = args.records.resolve()
        code = train_all(
            root, args.out, records, args.steps, args.data, args.seed, args.workers, args.methods
        )
        if code < 128:
            write_page(records.with_suffix(".md"), records, rows(root))
            print(f"wrote {records.with_suffix('.md')}", flush=True)
        return code
    methods = rows(root)
    print(markdown(methods))
    if args.write:
        write_table(root / "README.md", markdown(methods))
        write_page(root / "docs" / "methods.md", root / "docs" / "methods", methods)
    return 0
