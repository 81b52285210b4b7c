"""The table of methods, from the slots that their configs build."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mmengine.config import Config
from mmengine.registry import DefaultScope
from torch import nn

from mimseg.engine.stages import stage_configs
from mimseg.errors import UserError
from mimseg.files import read_section, replace_section
from mimseg.recipes.describe import describe
from mimseg.recipes.methods import Method, find_methods
from mimseg.registry import MODELS
from mimseg.rehearse.config import shrink

BEGIN, END = "<!-- methods: begin -->", "<!-- methods: end -->"
COLUMNS = ("teacher", "student", "normalization", "head", "loss", "mask", "positions")
SHORT = ("teacher", "loss")  # of README.md's table
_OWN = "earlier stage"  # work dir of the stages, to know their students by


@dataclass(frozen=True)
class Row:
    """A method and its slots in words, by the names in COLUMNS."""

    method: Method
    cells: dict[str, str]


def build_small(cfg: Config) -> nn.Module:
    """The model of a config that was made small, with weights not drawn yet."""
    DefaultScope.get_instance(f"methods {id(cfg)}", scope_name=cfg.get("default_scope", "mimseg"))
    return MODELS.build(copy.deepcopy(cfg.model))


def rows(root: Path) -> list[Row]:
    """Build each method's slots small and describe them.

    Raises:
        UserError: a config does not build; the message names it.
    """
    methods = []
    for method in find_methods(root):
        try:
            methods.append(Row(method, cells(method.load(root))))
        except Exception as error:
            raise UserError(
                str(method.path), method.name, expected=f"slots that build ({error})"
            ) from error
    return methods


def cells(cfg: Config) -> dict[str, str]:
    """The slots of a config in words; those of its stages side by side where they differ."""
    stages = _stages(cfg)
    each = [_one(stage) for stage in stages]
    return {column: _join([one[column] for one in each], ", then ") for column in COLUMNS}


def _stages(cfg: Config) -> list[Config]:
    if not cfg.get("stages"):
        return [cfg]
    placed = copy.deepcopy(cfg)
    placed.work_dir = _OWN
    return list(stage_configs(placed).values())


def _one(cfg: Config) -> dict[str, str]:
    full = copy.deepcopy(cfg.model)
    small = copy.deepcopy(cfg)
    shrink(small)
    model = build_small(small)
    given = full.get("teachers") or {"teacher": full.get("teacher")}
    objectives = full.get("objectives") or [{**full, "teacher": "teacher", "name": ""}]
    built = list(model.objectives.values())
    teachers = {name: _teacher(model.bank[name], cfg) for name, cfg in given.items()}
    positions = [_positions(one, model.masking) for one in built]
    parts: dict[str, list[str]] = {
        "teacher": [teachers[o["teacher"]] for o in objectives],
        "positions": positions,
    }
    for slot, attribute in (("normalization",) * 2, ("head",) * 2, ("loss", "criterion")):
        parts[slot] = [
            describe(getattr(one, attribute), o.get(slot))
            for one, o in zip(built, objectives, strict=True)
        ]
    text = {name: _join(values, "; ") for name, values in parts.items()}
    text["student"] = _student(model.backbone, full.backbone, model.masking)
    text["mask"] = describe(model.masking, full.get("masking"))
    return text


def _teacher(built: nn.Module, given: dict) -> str:
    if str(given.get("init", "")).startswith(f"{_OWN}/"):
        return "the student of an earlier stage"
    return describe(built, given)


def _student(built: nn.Module, given: dict, masking: nn.Module | None) -> str:
    arch = given.get("arch", "base")
    name = f"ViT-{arch if isinstance(arch, str) else 'own'}/{given.get('patch_size', 16)}"
    seen = "whole image"
    if masking is not None:
        seen = "masked patches dropped" if built.mask_mode == "drop" else "mask token"
    parts = [name, seen]
    if built.rel_pos_kind != "none":
        parts.append(f"{built.rel_pos_kind.replace('_', ' ')} relative positions")
    if given.get("layer_scale"):
        parts.append("layer scale")
    if given.get("last_block_heads"):
        parts.append(f"{given['last_block_heads']} heads in the last block")
    return ", ".join(parts)


def _positions(objective: nn.Module, masking: nn.Module | None) -> str:
    kind = objective.positions_kind
    if kind == "cls":
        return "CLS"
    kind = "all" if masking is None else kind
    return kind + (" and CLS" if objective.with_cls else "")


def _join(values: list[str], mark: str) -> str:
    return mark.join(dict.fromkeys(values))


def markdown(
    rows: list[Row], prefix: str = "", columns: Sequence[str] = SHORT, paper: bool = True
) -> str:
    """The rows as a Markdown table.

    Args:
        rows: the methods.
        prefix: the path from the file with the table to the repository's root.
        columns: some of COLUMNS.
        paper: whether there is a column with a link to each paper.
    """
    names = ["method", *(["paper"] if paper else []), *columns]
    lines = [f"| {' | '.join(names)} |", "|" + "---|" * len(names)]
    for row in rows:
        cells = [f"[{row.method.name}]({prefix}{row.method.path.as_posix()})"]
        if paper:
            number = row.method.paper
            cells.append(f"[{number}](https://arxiv.org/abs/{number})" if number else "ours")
        cells += [row.cells[column] for column in columns]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def write_table(path: Path, table: str) -> None:
    """Put the table between a Markdown file's markers.

    Raises:
        UserError: the file has no markers.
    """
    replace_section(path, BEGIN, END, table)


def read_table(path: Path) -> str:
    """The table between a Markdown file's markers."""
    return read_section(path, BEGIN, END)
