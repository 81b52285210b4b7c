"""mimseg estimate"""

from __future__ import annotations

from collections.abc import Sequence

from mimseg.cli.parsing import add_config_options, command_parser, read_options
from mimseg.errors import exit_code


def main(argv: Sequence[str] | None = None) -> int:
    """Say what a training takes before it is started. Returns the exit code."""
    parser = command_parser(
        "estimate",
        "Say in seconds what the training of CONFIG takes: parameters, FLOPs, memory, steps, disk "
        "and, by a measured or an assumed rate, time. Nothing is downloaded or written.",
        "estimate mae/mae_vit-base-p16_8xb512-amp-300e_in1k --processes 8 --gpu h100",
    )
    parser.add_argument(
        "config", metavar="CONFIG", help="a config file, or the name of a shipped one"
    )
    parser.add_argument(
        "--processes", type=int, default=1, metavar="N", help="how many train together (1)"
    )
    parser.add_argument("--fsdp", action="store_true", help="sharded over them, as train --fsdp")
    parser.add_argument("--gpu", metavar="NAME", help="assume the rate of a card, such as h100")
    parser.add_argument(
        "--measure", action="store_true", help="train for half a minute here, and take that rate"
    )
    parser.add_argument(
        "-v", "--verbose", action="store_true", help="show what is logged while the model is built"
    )
    parser.add_argument("--json", action="store_true", help="print JSON, in bytes and seconds")
    add_config_options(parser)
    args = parser.parse_args(argv)

    def run() -> None:
        import json

        from mimseg.engine.console import set_up
        from mimseg.engine.estimate import estimate
        from mimseg.engine.estimate_report import report
        from mimseg.engine.prepare import merge_options
        from mimseg.recipes.configs import config

        set_up(args.verbose)
        cfg = config(args.config)
        merge_options(cfg, read_options(args.cfg_options))
        estimates = estimate(cfg, args.processes, args.fsdp, args.gpu, args.measure)
        if args.json:
            print(json.dumps(dict(config=args.config, stages=[e.as_dict() for e in estimates])))
        else:
            print(report(estimates, args.config))

    return exit_code(run)
