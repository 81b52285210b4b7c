"""mimseg train"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from tempfile import gettempdir

from mimseg.cli.parsing import add_config_options, command_parser, read_options
from mimseg.errors import UserError, exit_code
from mimseg.files import report_unwritable

STOPPED = "stopped; the same command with --resume continues"
FIX = "free some space there; the same command with --resume continues from the last checkpoint"


def main(argv: Sequence[str] | None = None) -> int:
    """Train what a config describes. Returns the exit code."""
    parser = command_parser(
        "train",
        "Train what CONFIG describes: pretraining, segmentation or detection.",
        "train mae/mae_vit-mini-p8_1xb64-40e_scenes --cfg-options data_root=IMAGES",
    )
    add_run_options(parser)
    parser.add_argument("--resume", action="store_true", help="continue from the newest checkpoint")
    parser.add_argument("--amp", action="store_true", help="bf16, by mimseg.AmpOptimWrapper")
    parser.add_argument(
        "--init", metavar="X", help="checkpoint or work dir whose weights the backbone starts with"
    )
    parser.add_argument(
        "--skip-nonfinite",
        type=int,
        metavar="N",
        help="skip up to N steps in a row whose loss or gradient is not finite, instead of ending "
        "the run at the first (0)",
    )
    parser.add_argument(
        "--fsdp",
        action="store_true",
        help="shard model and optimizer over the processes, for large students (FSDP2)",
    )
    parser.add_argument(
        "--rehearse",
        action="store_true",
        help="try it in a minute on its own data: small, two steps, one validation; keeps nothing",
    )
    parser.add_argument(
        "--print-config",
        action="store_true",
        help="print the whole config, with --cfg-options, --amp and --init in it, and stop",
    )
    args = parser.parse_args(argv)

    def run() -> None:
        from mimseg.engine.console import set_up
        from mimseg.engine.prepare import (
            check_config,
            prepare_work_dir,
            use_amp,
            use_init,
            use_skip,
        )
        from mimseg.engine.run import leave_group, train
        from mimseg.engine.stages import train_stages
        from mimseg.engine.summary import say_end

        set_up(args.verbose)
        cfg = read_config(args)
        _check_start(args, cfg.get("load_from"))
        if args.rehearse:
            from mimseg.rehearse.run import run_rehearsal

            options = dict(init=args.init, amp=args.amp, trust=args.trust)
            with report_unwritable("--work-dir", args.work_dir or gettempdir()):
                return run_rehearsal(cfg, args.config, args.work_dir, **options)
        if args.amp:
            use_amp(cfg)
        if args.init:
            use_init(cfg, args.init, args.trust)
        if args.skip_nonfinite is not None:
            use_skip(cfg, args.skip_nonfinite)
        if args.fsdp:
            cfg.fsdp = cfg.get("fsdp") or True
        if args.print_config:
            cfg.pop("launcher")  # the command line's
            return print(cfg.pretty_text)
        prepare_work_dir(cfg, args.work_dir, args.config, args.resume)
        if not cfg.get("stages"):  # each stage's own config is checked otherwise
            check_config(cfg, ("train", "val"))
        with report_unwritable("--work-dir", cfg.work_dir, FIX):
            record = (train_stages if cfg.get("stages") else train)(cfg, args.resume, args.trust)
        say_end(cfg, record)
        leave_group()

    return exit_code(run, STOPPED)


def add_run_options(parser: argparse.ArgumentParser) -> None:
    """Add what `train` and `test` share."""
    parser.add_argument(
        "config", metavar="CONFIG", help="a config file, or the name of a shipped one"
    )
    parser.add_argument("--work-dir", help="where to write (work_dirs/<config's name>)")
    add_config_options(parser)
    parser.add_argument(
        "--trust", action="store_true", help="run code in the checkpoints named: know their origin"
    )
    parser.add_argument(
        "-v", "--verbose", action="store_true", help="show the whole log on the console, too"
    )
    parser.add_argument("--launcher", choices=("none", "pytorch", "slurm", "mpi"), default="none")
    parser.add_argument("--local_rank", "--local-rank", type=int, default=0, help=argparse.SUPPRESS)


def read_config(args: argparse.Namespace):
    """The config that the arguments name, with their settings.

    Raises:
        UserError: there is no such config, or a setting does not fit it.
    """
    from mimseg.engine.prepare import merge_options
    from mimseg.recipes.configs import config

    cfg = config(args.config)
    merge_options(cfg, read_options(args.cfg_options))
    cfg.launcher = args.launcher
    return cfg


def _check_start(args: argparse.Namespace, load_from: str | None) -> None:
    """Refuse what would have no effect."""
    if args.rehearse and (args.resume or args.launcher != "none"):
        flag, value = ("--resume", True) if args.resume else ("--launcher", args.launcher)
        raise UserError(flag, value, expected="a run of its own in one process with --rehearse")
    if args.init and load_from:
        expected = "one of --init and load_from, which brings a backbone of its own"
        raise UserError("--init", args.init, expected=expected, fix="leave one out")
    if args.trust and not (args.init or load_from or args.resume):
        expected = "a checkpoint to trust: --init, load_from or --resume"
        fix = "leave it out; a teacher has a trust of its own"
        raise UserError("--trust", True, expected=expected, fix=fix)
