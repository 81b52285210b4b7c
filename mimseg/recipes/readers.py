"""Finds which configs of the repository read which data, from their text alone.

Loading a hundred configs takes seconds. Each says where its data lies by default in a plain
`data_root = '...'`, of its own or of a base's.
"""

from __future__ import annotations

import ast
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from mimseg.recipes.configs import CONFIGS


@dataclass(frozen=True)
class DataConfig:
    """A config that reads data.

    Args:
        path: relative to the repository, "configs/..." .
        data_root: where its data lies unless it is moved.
        labeled: False for pretraining on a folder of images.
        size: the side of the student's view in pixels; None without one.
    """

    path: str
    data_root: str
    labeled: bool
    size: int | None


@cache
def find_configs(folder: Path = CONFIGS) -> tuple[DataConfig, ...]:
    """All configs with data, by path; none where the package lies without its repository."""
    configs = []
    for path in sorted(folder.glob("[!_]*/*.py")):
        values: dict = {}
        _read(path, values)
        if isinstance(values.get("data_root"), str):
            name = path.relative_to(folder.parent).as_posix()
            labeled = values.get("with_label", True) is not False
            configs.append(DataConfig(name, values["data_root"], labeled, values.get("student")))
    return tuple(configs)


@cache
def _parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def _read(path: Path, values: dict) -> None:
    """Add a config's data_root, with_label and student's size to `values`, after its bases'."""
    tree = _parse(path)
    for node in tree.body:
        if not isinstance(node, ast.Assign) or not isinstance(node.targets[0], ast.Name):
            continue
        name = node.targets[0].id
        if name == "_base_":
            bases = ast.literal_eval(node.value)
            for base in [bases] if isinstance(bases, str) else bases:
                _read((path.parent / base).resolve(), values)
        elif name == "data_root" and isinstance(node.value, ast.Constant):
            values[name] = node.value.value
    for node in ast.walk(tree):
        if not isinstance(node, ast.keyword):
            continue
        if node.arg == "with_label" and isinstance(node.value, ast.Constant):
            values[node.arg] = node.value.value
        elif node.arg == "student" and isinstance(node.value, ast.Call):
            sizes = [k.value for k in node.value.keywords if k.arg == "size"]
            if sizes and isinstance(sizes[0], ast.Constant):
                values[node.arg] = sizes[0].value
