"""mimseg replay"""

from __future__ import annotations

from collections.abc import Sequence

from mimseg.cli.parsing import add_config_options, command_parser, read_options
from mimseg.errors import exit_code


def main(argv: Sequence[str] | None = None) -> int:
    """Repeat a step that diverged. Returns 0 where it diverges again, else 1."""
    parser = command_parser(
        "replay",
        "Repeat the step at which the run in WORK_DIR diverged, and say in which module the first "
        "value that is not finite appears. Nothing is written. Exit code 0: it diverged again; 1: "
        "it did not, as may be on another device.",
        "replay work_dirs/mae_vit-mini-p8_1xb64-40e_scenes",
    )
    parser.add_argument("work_dir", metavar="WORK_DIR", help="of the run, or of its stage")
    parser.add_argument(
        "--config",
        metavar="CONFIG",
        help="the config of the run, where the one in the file, which is read as data, will not do",
    )
    parser.add_argument(
        "--precision", choices=("float32", "bfloat16"), help="compute in another than the run's"
    )
    add_config_options(parser)
    parser.add_argument(
        "--trust", action="store_true", help="run code in the checkpoints that the config names"
    )
    parser.add_argument("-v", "--verbose", action="store_true", help="show what libraries print")
    args = parser.parse_args(argv)

    def run() -> int:
        from mimseg.engine.console import set_up
        from mimseg.engine.replay import replay

        set_up(args.verbose)
        options = read_options(args.cfg_options)
        result = replay(args.work_dir, args.config, options, args.precision, args.trust)
        print("\n".join(result.lines()))
        return 0 if result.diverged else 1

    return exit_code(run)
