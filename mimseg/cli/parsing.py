"""Builds the commands' argument parsers."""

from __future__ import annotations

import argparse


def command_parser(name: str, description: str, example: str) -> argparse.ArgumentParser:
    """A parser for `mimseg NAME`, whose help ends with an example.

    Args:
        name: the sub-command.
        description: what it does, and what it leaves on disk.
        example: a command line that works, without the leading `mimseg`.
    """
    return argparse.ArgumentParser(
        prog=f"mimseg {name}",
        description=description,
        epilog=f"example: mimseg {example}",
        formatter_class=_Formatter,
    )


class _Formatter(argparse.HelpFormatter):
    def _fill_text(self, text: str, width: int, indent: str) -> str:
        if not text.startswith("example: "):
            return super()._fill_text(text, width, indent)
        return "example:\n  " + text.removeprefix("example: ")  # one line, to be copied


def add_config_options(parser: argparse.ArgumentParser) -> None:
    """Add `--cfg-options KEY=VALUE ...`, a list of strings for `read_options`."""
    parser.add_argument(
        "--cfg-options",
        nargs="+",
        default=[],
        metavar="KEY=VALUE",
        help="settings that replace the config's, such as optim_wrapper.optimizer.lr=1e-4",
    )


def read_options(texts: list[str]) -> dict:
    """KEY=VALUE strings as a dict, with mmengine's rules for numbers, lists and tuples.

    Raises:
        UserError: a string without "=".
    """
    from mmengine.config import DictAction

    from mimseg.errors import UserError

    for text in texts:
        if "=" not in text:
            raise UserError(
                "--cfg-options", text, expected="KEY=VALUE, such as train_cfg.max_epochs=5"
            )
    if not texts:
        return {}
    parser = argparse.ArgumentParser()
    parser.add_argument("--options", nargs="+", action=DictAction)
    return parser.parse_args(["--options", *texts]).options
