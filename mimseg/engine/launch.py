"""What tools/train.py and tools/test.py do."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from mmengine.config import Config, DictAction

from mimseg.engine.prepare import check_config, merge_options, prepare_work_dir, use_amp, use_init
from mimseg.errors import UserError, exit_code

STOPPED = "stopped; the same command with --resume goes on"


def train_main(argv: Sequence[str] | None = None) -> int:
    """`tools/train.py`: pretraining, segmentation and detection. Returns the exit code."""
    parser = _parser("Train what CONFIG describes: pretraining, segmentation or detection.")
    parser.add_argument("--resume", action="store_true", help="go on from the newest checkpoint")
    parser.add_argument("--amp", action="store_true", help="bf16, by mimseg.AmpOptimWrapper")
    parser.add_argument(
        "--init", metavar="X", help="checkpoint or work dir whose weights the backbone starts with"
    )
    args = parser.parse_args(argv)

    def run() -> None:
        from mimseg.engine.run import train
        from mimseg.engine.stages import train_stages

        cfg = _config(args)
        _check_start(args, cfg.get("load_from"))
        prepare_work_dir(cfg, args.work_dir, args.config, args.resume)
        if args.amp:
            use_amp(cfg)
        if args.init:
            use_init(cfg, args.init, args.trust)
        if not cfg.get("stages"):  # each stage's own config is checked otherwise
            check_config(cfg, ("train", "val"))
        (train_stages if cfg.get("stages") else train)(cfg, args.resume, args.trust)
        _leave_group()

    return exit_code(run, STOPPED)


def test_main(argv: Sequence[str] | None = None) -> int:
    """`tools/test.py`: the metrics of a checkpoint on the test split. Returns the exit code."""
    parser = _parser("Measure CHECKPOINT (a file or a work dir) on the test split of CONFIG.")
    parser.add_argument("checkpoint", help="a checkpoint, or a work dir")
    parser.add_argument("--amp", action="store_true", help="bf16 autocast")
    parser.add_argument("--tta", action="store_true", help="average tta_pipeline's scales, flips")
    args = parser.parse_args(argv)

    def run() -> None:
        from mimseg.engine.run import test

        cfg = _config(args)
        prepare_work_dir(cfg, args.work_dir, args.config, resume=True)
        check_config(cfg, ("test",))
        test(cfg, args.checkpoint, args.amp, args.tta, args.trust)
        _leave_group()

    return exit_code(run, STOPPED)


def _leave_group() -> None:
    """Part from the other processes: NCCL warns of a group that is left behind."""
    from torch import distributed

    if distributed.is_available() and distributed.is_initialized():
        distributed.destroy_process_group()


def _parser(description: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("config", help="a config file")
    parser.add_argument("--work-dir", help="where to write (work_dirs/<config's name>)")
    parser.add_argument(
        "--cfg-options",
        nargs="+",
        action=DictAction,
        metavar="KEY=VALUE",
        help="settings that replace the config's, such as optim_wrapper.optimizer.lr=1e-4",
    )
    parser.add_argument(
        "--trust", action="store_true", help="run code in the checkpoints named: know their origin"
    )
    parser.add_argument("--launcher", choices=("none", "pytorch", "slurm", "mpi"), default="none")
    parser.add_argument("--local_rank", "--local-rank", type=int, default=0, help=argparse.SUPPRESS)
    return parser


def _check_start(args: argparse.Namespace, load_from: str | None) -> None:
    """Refuse what would have no effect."""
    if args.init and load_from:
        expected = "one of --init and load_from, which brings a backbone of its own"
        raise UserError("--init", args.init, expected=expected, fix="leave one out")
    if args.trust and not (args.init or load_from or args.resume):
        expected = "a checkpoint to trust: --init, load_from or --resume"
        raise UserError(
            "--trust", True, expected=expected, fix="leave it out; a teacher has a trust of its own"
        )


def _config(args: argparse.Namespace) -> Config:
    if not Path(args.config).is_file():
        raise UserError("config", args.config, expected="a config file")
    cfg = Config.fromfile(args.config)
    merge_options(cfg, args.cfg_options or {})
    cfg.launcher = args.launcher
    return cfg
