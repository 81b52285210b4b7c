"""mimseg pretrain"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from copy import deepcopy
from pathlib import Path

from mimseg.cli.parsing import command_parser
from mimseg.errors import UserError, exit_code
from mimseg.files import report_unwritable
from mimseg.students.archs import ARCHS

STOPPED = "stopped; the same command with --resume continues"


def main(argv: Sequence[str] | None = None) -> int:
    """Pretrain a backbone on a folder of images. Returns the exit code."""
    parser = command_parser(
        "pretrain",
        "Pretrain a backbone on the images below a folder; labels are not used. The shipped recipe "
        "of the method is adapted to the number of images and to the batch, and written to "
        "OUT/config.py.",
        "pretrain photos --method mae --arch small --epochs 100",
    )
    add = parser.add_argument
    add("images", metavar="IMAGES", type=Path, help="a folder of images, sub-folders included")
    add("--method", default="mae", help="a method of `mimseg methods` (mae)")
    add(
        "--teacher",
        metavar="clip|dino|dinov2|PATH|none",
        help="of a method that has one: a network from the hub, or a checkpoint or work dir "
        "(the recipe's)",
    )
    add("--arch", default="base", choices=list(ARCHS), help="size of the ViT (base)")
    add("--out", type=Path, help="work dir (work_dirs/METHOD_ARCH_IMAGES)")
    add("--epochs", type=int, help="passes over the images, in each stage (the recipe's)")
    add("--batch", type=int, help="images per step on each GPU (the recipe's; 32 on a CPU)")
    add("--gpus", type=int, help="number of GPUs (1 where there is one, else 0: the CPU)")
    add("--resume", action="store_true", help="continue from the newest checkpoint in OUT")
    add("--dry-run", action="store_true", help="print the plan and stop")
    args = parser.parse_args(argv)
    return exit_code(lambda: _run(args), STOPPED)


def _run(args: argparse.Namespace) -> int:
    import torch

    from mimseg.engine.stages import check_models
    from mimseg.recipes.pretrain import Request, compose

    available = torch.cuda.device_count()
    gpus = min(1, available) if args.gpus is None else args.gpus
    if not 0 <= gpus <= available:
        raise UserError("--gpus", gpus, expected=f"0 to {available}, the GPUs of this machine")
    request = Request(
        args.images, args.method, args.teacher, args.arch, args.epochs, args.batch, gpus
    )
    composition = compose(request)
    out = args.out or Path("work_dirs") / f"{args.method}_{args.arch}_{args.images.resolve().name}"
    composition.cfg.work_dir = str(out)
    check_models(composition.cfg)
    print("\n".join(_plan(composition, gpus, out)), flush=True)
    if args.dry_run:
        return 0
    return _train(composition.cfg, out, gpus, args.resume)


def _train(cfg, out: Path, gpus: int, resume: bool) -> int:
    from mimseg.engine.prepare import prepare_work_dir

    prepare_work_dir(cfg, str(out), "", resume)
    path = out / "config.py"
    with report_unwritable("--out", out):
        cfg.dump(path)
    argv = [str(path), "--work-dir", str(out), *(["--resume"] if resume else [])]
    if gpus < 2:
        from mimseg.cli.train import main as train

        return train(argv)
    import subprocess
    import sys

    launch = ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={gpus}"]
    command = [sys.executable, *launch, "-m", "mimseg.cli", "train", *argv]
    return subprocess.run([*command, "--launcher", "pytorch"]).returncode


def _plan(composition, gpus: int, out: Path) -> list[str]:
    from mimseg.engine.scale_lr import scale_lr

    cfg, backbone = composition.cfg, composition.cfg.model.backbone
    teacher = cfg.model.get("teacher") or {}
    name = teacher.get("model") or teacher.get("init") or teacher.get("type", "several networks")
    length = f"{composition.epochs:,} epochs, {composition.steps:,} steps"
    if composition.stages > 1:
        length = f"{composition.stages} stages of {length}"
    device = "the CPU" if not gpus else "1 GPU" if gpus == 1 else f"{gpus} GPUs"
    rows = {
        "images": composition.count.text(),
        "recipe": composition.recipe,
        "teacher": name.removeprefix("mimseg."),
        "student": f"ViT-{backbone.arch}/{backbone.patch_size}, {backbone.img_size} px",
        "length": f"{length}, {composition.batch} images per step on {device}",
        "rate": str(scale_lr(deepcopy(cfg), max(1, gpus))),  # `train` scales the config itself
        "out": str(out),
    }
    return [*(f"{key:8} {value}" for key, value in rows.items()), *composition.notes]
