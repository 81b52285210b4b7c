"""Finds the methods: one main config in each folder of configs/ that pretrains."""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass
from pathlib import Path

from mimseg.errors import UserError
from mimseg.recipes.configs import CONFIGS

MODEL = "mimseg.MaskedImageModeling"
_ARXIV = re.compile(r"arXiv[ :]*(\d{4}\.\d{5})", re.IGNORECASE)


@dataclass(frozen=True)
class Method:
    """A row of the table.

    Args:
        name: the config's folder.
        path: the config, relative to the folder that `configs` lies in.
        paper: arXiv identifier, or None where no comment at the config's start names one.
    """

    name: str
    path: Path
    paper: str | None

    @property
    def config(self) -> str:
        """The config's name, as the commands take it."""
        return self.path.relative_to("configs").with_suffix("").as_posix()

    def load(self, root: Path = CONFIGS.parent):
        """The config as written, an mmengine Config."""
        from mmengine.config import Config

        return Config.fromfile(root / self.path, import_custom_modules=False)


def find_methods(root: Path = CONFIGS.parent) -> list[Method]:
    """The main config of every method, by name.

    A method is a folder of configs/ with a config of `mimseg.MaskedImageModeling`. The main one is,
    in this order: one for ImageNet-1k (`_in1k` in its name), one of a ViT-B, the one whose name is
    shortest (variants add words to it), the first by name.

    Raises:
        UserError: a config is not Python, or none pretrains.
    """
    methods = []
    for folder in sorted(path for path in (root / "configs").iterdir() if path.is_dir()):
        paths = () if folder.name.startswith("_") else sorted(folder.glob("*.py"))
        for path in sorted(paths, key=_rank):
            if _pretrains(path):
                methods.append(Method(folder.name, path.relative_to(root), find_paper(path)))
                break
    if not methods:
        raise UserError("configs", str(root / "configs"), expected=f"configs of {MODEL}")
    return methods


def methods() -> dict[str, Method]:
    """The methods that the package ships, by name: `mimseg.methods()["mae"].paper`."""
    return {method.name: method for method in find_methods()}


def _rank(path: Path) -> tuple[bool, bool, int, str]:
    stem = path.stem
    return not stem.endswith("_in1k"), "vit-base" not in stem, len(stem), stem


def _pretrains(path: Path) -> bool:
    """Whether a config's own text names the algorithm: loading them all takes seconds."""
    try:
        tree = ast.parse(path.read_text(encoding="utf-8"))
    except (SyntaxError, ValueError) as error:
        raise UserError("config", str(path), expected=f"a config that loads ({error})") from error
    return any(isinstance(node, ast.Constant) and node.value == MODEL for node in ast.walk(tree))


def find_paper(path: Path) -> str | None:
    """The first arXiv identifier in the comment that a config, or else one of its bases, starts
    with."""
    text = path.read_text(encoding="utf-8")
    header = re.match(r"(?:#.*\n|\s*\n)*", text).group()
    if match := _ARXIV.search(header):
        return match.group(1)
    bases = re.search(r"^_base_\s*=\s*(\[.*?\]|'[^']*')", text, re.DOTALL | re.MULTILINE)
    for base in re.findall(r"['\"]([^'\"]+\.py)['\"]", bases.group(1)) if bases else ():
        if paper := find_paper(path.parent / base):
            return paper
    return None
