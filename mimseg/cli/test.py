"""mimseg test"""

from __future__ import annotations

from collections.abc import Sequence

from mimseg.cli.parsing import command_parser
from mimseg.cli.train import add_run_options, read_config
from mimseg.errors import exit_code
from mimseg.files import report_unwritable


def main(argv: Sequence[str] | None = None) -> int:
    """Measure a checkpoint on the test split. Returns the exit code."""
    parser = command_parser(
        "test",
        "Measure CHECKPOINT (a file or a work dir) on the test split of CONFIG.",
        "test ade20k/vit-base_upernet_8xb2-160k_ade20k-512x512 work_dirs/ade20k",
    )
    add_run_options(parser)
    parser.add_argument("checkpoint", metavar="CHECKPOINT", help="a checkpoint, or a work dir")
    parser.add_argument("--amp", action="store_true", help="bf16 autocast")
    parser.add_argument("--tta", action="store_true", help="average tta_pipeline's scales, flips")
    args = parser.parse_args(argv)

    def run() -> None:
        from mimseg.engine.console import set_up
        from mimseg.engine.prepare import check_config, prepare_work_dir
        from mimseg.engine.run import leave_group, test

        set_up(args.verbose)
        cfg = read_config(args)
        prepare_work_dir(cfg, args.work_dir, args.config, resume=True)
        check_config(cfg, ("test",))
        with report_unwritable("--work-dir", cfg.work_dir):
            test(cfg, args.checkpoint, args.amp, args.tta, args.trust)
        leave_group()

    return exit_code(run, "stopped")
