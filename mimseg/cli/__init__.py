"""Runs the `mimseg` command: one module per sub-command, each with `main(argv) -> int`.

Nothing heavy is imported before a command's arguments are parsed.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib import import_module

COMMANDS = {  # name -> (module, what it does)
    "pretrain": ("pretrain", "pretrain a backbone on a folder of images"),
    "train": ("train", "train what a config describes: pretraining, segmentation or detection"),
    "replay": ("replay", "repeat the step at which a run diverged, and say where it began"),
    "test": ("test", "measure a checkpoint on the test split of a config"),
    "benchmark": ("benchmark", "pretrain, fine-tune, test and write a report"),
    "convert": ("convert", "write a checkpoint's backbone by another library's names"),
    "export": ("export", "write a classifier, a backbone or a segmentor to ONNX"),
    "analyze": ("analyze", "look at features without training anything"),
    "methods": ("methods", "list the methods and their configs"),
    "estimate": ("estimate", "say what a training takes: memory, FLOPs, disk and time"),
    "doctor": ("doctor", "say what this machine has and what will not work"),
    "check": ("check", "check a data set and name the configs that read it"),
    "scenes": ("scenes", "draw labeled scenes as data to try things on"),
    "masks2coco": ("masks2coco", "turn label maps into COCO instances"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run a sub-command. Returns its exit code, or 2 where there is none of that name."""
    try:
        code = _run(list(sys.argv[1:] if argv is None else argv))
        sys.stdout.flush()
        return code
    except BrokenPipeError:  # of `mimseg methods | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def _run(argv: list[str]) -> int:
    name = argv[0] if argv else "--help"
    if name in ("-h", "--help"):
        print(_help())
        return 0
    if name == "--version":
        from mimseg import __version__

        print(f"mimseg {__version__}")
        return 0
    if name not in COMMANDS:
        from difflib import get_close_matches

        near = get_close_matches(name, COMMANDS, 1)
        hint = f"did you mean {near[0]}?" if near else "mimseg --help lists the commands"
        print(f"error: mimseg has no command {name!r}: {hint}", file=sys.stderr)
        return 2
    return import_module(f"mimseg.cli.{COMMANDS[name][0]}").main(argv[1:])


def _help() -> str:
    width = max(map(len, COMMANDS))
    rows = [f"  {name:{width}}  {text}" for name, (_, text) in COMMANDS.items()]
    return "\n".join(
        [
            "usage: mimseg COMMAND ...",
            "",
            "Pretrain a vision backbone on unlabeled images, and carry it into segmentation and",
            "detection.",
            "",
            "commands:",
            *rows,
            "",
            "mimseg COMMAND --help shows a command's arguments and an example.",
        ]
    )
