"""mimseg benchmark"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mimseg.cli.parsing import add_config_options, command_parser, read_options
from mimseg.errors import exit_code


def main(argv: Sequence[str] | None = None, root: Path | None = None) -> int:
    """Run a benchmark. Returns 0, 1 after a failed step, 2 after a user's mistake."""
    parser = command_parser(
        "benchmark",
        "Run a benchmark: data, pretraining, fine-tuning, tests, and a report. It may be killed at "
        "any time; the same command continues with what is not finished.",
        "benchmark demo",
    )
    add = parser.add_argument
    add("config", metavar="CONFIG", help="a config of configs/benchmark: a path, or a name")
    add("--work-dir", type=Path, help="default: work_dirs/<name of the config>")
    add("--data-root", type=Path, help="what {data_root} in the config stands for")
    add("--seeds", type=int, nargs="+", help="instead of the config's")
    add("--tasks", nargs="+", metavar="NAME", help="these and what they need alone")
    add("--inits", nargs="+", metavar="NAME", help="of each task's, these alone")
    add("--workers", type=int, help="steps that run at once")
    add("--records", type=Path, help="also write each result row into this folder")
    add("--dry-run", action="store_true", help="list the steps and stop")
    add_config_options(parser)
    args = parser.parse_args(argv)

    def run() -> int:
        from mimseg.benchmark.run import run_benchmark
        from mimseg.recipes.configs import CHECKOUT, find_config

        args.config = find_config(args.config, folder="benchmark")
        args.cfg_options = read_options(args.cfg_options)
        return run_benchmark(args, root or CHECKOUT)

    return exit_code(run)
