"""Reads a benchmark's config: the part to run, and where its initializations come from."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from mimseg.errors import UserError
from mimseg.pipeline.places import Places
from mimseg.pipeline.step import load_config

RANDOM = "random"


def read_config(args: argparse.Namespace) -> dict[str, Any]:
    """The benchmark's config with the command line's changes.

    Raises:
        UserError: the file is missing, does not load, or asks for less than one worker.
    """
    from mmengine.config import Config

    if not args.config.is_file():
        raise UserError(
            "config", str(args.config), expected="an existing file", fix="correct the path"
        )
    try:
        config = Config.fromfile(args.config, import_custom_modules=False)
        config.merge_from_dict(args.cfg_options)
    except Exception as error:
        raise UserError(
            "config", str(args.config), expected=f"a config that loads ({error})"
        ) from error
    part = subset(config.to_dict(), args.tasks, args.inits)
    if args.seeds:
        part["seeds"] = args.seeds
    part["workers"] = args.workers or part.get("workers", 1)
    if not isinstance(part["workers"], int) or part["workers"] < 1:
        raise UserError("workers", part["workers"], expected="a whole number of at least 1")
    return part


def subset(
    config: dict[str, Any], tasks: Sequence[str] | None, inits: Sequence[str] | None
) -> dict[str, Any]:
    """The config with these tasks and initializations alone; None takes all there are.

    Pretrainings and preparations that nothing of it needs are left out, and so are `extra` and
    `study`.

    Raises:
        UserError: a name that the config does not have.
    """
    if tasks is None and inits is None:
        return config
    all_tasks = config.get("tasks", [])
    _check_names("--tasks", tasks, [task["name"] for task in all_tasks])
    part = [dict(task) for task in all_tasks if tasks is None or task["name"] in tasks]
    for task in part:
        task["inits"] = inits_of(task, config)
    _check_names("--inits", inits, dict.fromkeys(init for task in part for init in task["inits"]))
    for task in part:
        task["inits"] = [init for init in task["inits"] if inits is None or init in inits]
    part = [task for task in part if task["inits"]]
    needed = {init for task in part for init in task["inits"]}
    pretrain = []
    for item in reversed(config.get("pretrain", [])):  # a pretraining comes after its teachers
        if any(init == item["name"] or init.startswith(f"{item['name']}-") for init in needed):
            needed.update(item.get("after", []))
            pretrain.insert(0, item)
    rest = {key: value for key, value in config.items() if key not in ("extra", "study")}
    prepare = _preparations(config.get("prepare", []), [*part, *pretrain])
    return rest | dict(tasks=part, pretrain=pretrain, prepare=prepare)


def inits_of(task: dict[str, Any], config: dict[str, Any]) -> list[str]:
    """The initializations that a task of a benchmark's config compares."""
    return list(task.get("inits") or config.get("inits") or [RANDOM])


@dataclass(frozen=True)
class Source:
    """A checkpoint, the steps that make it, and what a task's config needs to take it.

    Args:
        checkpoint: a file or a work dir, placeholders in it; None for random weights.
        needs: names of steps.
        options: dotted settings, such as a layer scale that the backbone was pretrained with.
    """

    checkpoint: str | None = None
    needs: list[str] = field(default_factory=list)
    options: dict[str, Any] = field(default_factory=dict)

    @property
    def flags(self) -> list[str]:
        """The words that the training command needs."""
        return ["--init", self.checkpoint] if self.checkpoint else []


def sources(pretrains: list[dict[str, Any]], places: Places) -> dict[str, Source]:
    """The initializations that `inits` may name, with their sources.

    'random'; each pretraining by its name, which is its last student; and each stage of one whose
    config has `stages`, as NAME-STAGE.

    Raises:
        UserError: a pretraining's config is missing or does not load.
    """
    table = {RANDOM: Source()}
    for item in pretrains:
        name, options = item["name"], dict(item.get("finetune", {}))
        if "checkpoint" in item:  # somebody else's weights
            table[name] = Source(item["checkpoint"], options=options)
            continue
        step = f"pretrain-{name}"
        table[name] = Source(f"{{work_dir}}/{step}", [step], options)
        config = load_config(places.config(item["config"]))
        for number, stage in enumerate(config.get("stages") or []):
            folder = stage.get("name", f"stage{number}")
            table[f"{name}-{folder}"] = Source(f"{{work_dir}}/{step}/{folder}", [step], options)
    return table


def _preparations(
    prepare: list[dict[str, Any]], users: list[dict[str, Any]]
) -> list[dict[str, Any]]:
    """The preparations that any user needs; all, where one does not say what it needs."""
    if any("needs" not in user for user in users):
        return prepare
    needed = {name for user in users for name in user["needs"]}
    part = []
    for item in reversed(prepare):  # a preparation comes after those it needs
        if item["name"] in needed:
            needed.update(item.get("needs", []))
            part.insert(0, item)
    return part


def _check_names(flag: str, names: Sequence[str] | None, known: Sequence[str]) -> None:
    for name in names or ():
        if name not in known:
            raise UserError(flag, name, expected=f"some of {', '.join(known)}")
