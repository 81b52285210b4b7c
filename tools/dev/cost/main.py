"""The command line of tools/bench/dense.py."""

from __future__ import annotations

import argparse
import shlex
import sys
from pathlib import Path

from dev.cost.cell import BATCHES, SIZES, TASKS, Cell
from dev.cost.dense import Clock, comparison, difference_text, measure
from dev.cost.memory import PeakMemory
from dev.cost.records import summary, write_record
from dev.cost.worker import BenchFailure
from mimseg.errors import UserError, exit_code
from mimseg.pipeline.provenance import commit, machine, usable_cores
from mimseg.students.archs import ARCHS


def parse(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description="Time a training step, and its peak memory, of UperNet and Mask R-CNN with "
        "mimseg.ViT beside mmpretrain's VisionTransformer and ViTSAM: same weights, neck, heads, "
        "batch, threads and type. Outputs are compared first; each side has a process of its own, "
        "and they take turns, one step each.",
    )
    parser.add_argument("--task", nargs="+", choices=list(TASKS), default=list(TASKS))
    parser.add_argument("--arch", nargs="+", choices=list(ARCHS), help="(small base)")
    parser.add_argument("--size", type=int, help="side of the images in pixels (512; 1024)")
    parser.add_argument("--batch", type=_count, help="images a step (2; 1)")
    parser.add_argument("--steps", type=_count, help="timed steps of each side (7)")
    parser.add_argument("--warmup", type=_count, help="untimed steps before them (2)")
    parser.add_argument("--threads", type=_count, default=usable_cores(), help="(all usable cores)")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--dtype", choices=["float32", "bf16"], default="float32")
    parser.add_argument(
        "--checkpointing", action="store_true", help="recompute blocks, on both sides"
    )
    parser.add_argument("--records", type=Path, help="also write each row into this folder")
    parser.add_argument(
        "--smoke", action="store_true", help="mini networks, 64 px, 2 steps: does it run?"
    )
    args = parser.parse_args(argv)
    usual = (["mini"], 64, 2, 1) if args.smoke else (["small", "base"], None, 7, 2)
    for key, value in zip(("arch", "size", "steps", "warmup"), usual, strict=True):
        if getattr(args, key) is None:
            setattr(args, key, value)
    return args


def cells(args: argparse.Namespace) -> list[Cell]:
    """What the arguments ask for.

    Raises:
        UserError: a size, batch or device that cannot be.
    """
    if args.device == "cuda":
        import torch

        if not torch.cuda.is_available():
            raise UserError(
                "--device", "cuda", expected="a GPU that torch sees", fix="leave it out: cpu"
            )
    return [
        Cell(
            task,
            arch,
            SIZES[task] if args.size is None else args.size,
            args.batch or BATCHES[task],
            args.device,
            args.dtype,
            args.threads,
            args.checkpointing,
        )
        for arch in args.arch
        for task in args.task
    ]


def run(args: argparse.Namespace, root: Path, command: str) -> int:
    """Measure every cell; each is printed, and recorded, as it finishes."""
    todo = cells(args)
    progress = Clock(todo, args.warmup + args.steps)
    facts = {"command": command, "commit": commit(root), "machine": machine()}
    print(f"peak memory: {PeakMemory.HOW[args.device]}", flush=True)
    for cell in todo:
        print(f"\n{cell.title}", flush=True)
        rows = measure(cell, args.steps, args.warmup, progress)
        print(f"  {difference_text(cell, *(row['differences'] for row in rows))}")
        for row in rows:
            step, rate, peak = summary(row)
            print(f"  {row['model']:30} {step} s a step, {rate} images/s, peak {peak or 'unknown'}")
            if args.records:
                write_record(args.records, cell.name, {**row, **facts})
        print(f"  ours / stock: {comparison(*rows)}", flush=True)
    return 0


def main(argv: list[str] | None = None, root: Path | None = None) -> int:
    """Run the command line. Returns 0, 1 where nothing was timed, 2 after a user's mistake."""
    argv = sys.argv[1:] if argv is None else argv
    args = parse(argv)
    command = shlex.join(["python", "tools/bench/dense.py", *argv])

    def run_or_say() -> int:
        try:
            return run(args, root or Path(__file__).resolve().parents[3], command)
        except BenchFailure as failure:
            print(f"error: {failure}", file=sys.stderr)
            return 1

    return exit_code(run_or_say, "stopped")


def _count(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{value} is not at least 1")
    return value
