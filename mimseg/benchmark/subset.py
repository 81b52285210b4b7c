"""A part of a benchmark: some of its tasks and initialisations, and what they need."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mimseg.benchmark.inits import inits_of
from mimseg.errors import UserError


def subset(
    config: dict[str, Any], tasks: Sequence[str] | None, inits: Sequence[str] | None
) -> dict[str, Any]:
    """The config with these tasks and initialisations alone; None takes all there are.

    Pretrainings and preparations that nothing of it needs are left out, and so are `extra` and
    `study`.

    Raises:
        UserError: a name that the config does not have.
    """
    if tasks is None and inits is None:
        return config
    every = config.get("tasks", [])
    _expect("--tasks", tasks, [task["name"] for task in every])
    kept = [dict(task) for task in every if tasks is None or task["name"] in tasks]
    for task in kept:
        task["inits"] = inits_of(task, config)
    _expect("--inits", inits, dict.fromkeys(init for task in kept for init in task["inits"]))
    for task in kept:
        task["inits"] = [init for init in task["inits"] if inits is None or init in inits]
    kept = [task for task in kept if task["inits"]]
    wanted = {init for task in kept for init in task["inits"]}
    pretrain = []
    for item in reversed(config.get("pretrain", [])):  # what others wait for stands before them
        if any(init == item["name"] or init.startswith(f"{item['name']}-") for init in wanted):
            wanted.update(item.get("after", []))
            pretrain.insert(0, item)
    part = {key: value for key, value in config.items() if key not in ("extra", "study")}
    prepare = _needed(config.get("prepare", []), [*kept, *pretrain])
    return part | dict(tasks=kept, pretrain=pretrain, prepare=prepare)


def _needed(prepare: list[dict[str, Any]], users: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The preparations that any of these needs; all, where one does not say what it needs."""
    if any("needs" not in user for user in users):
        return prepare
    wanted = {name for user in users for name in user["needs"]}
    found = []
    for item in reversed(prepare):  # what others need stands before them
        if item["name"] in wanted:
            wanted.update(item.get("needs", []))
            found.insert(0, item)
    return found


def _expect(flag: str, names: Sequence[str] | None, known: Sequence[str]) -> None:
    for name in names or ():
        if name not in known:
            raise UserError(flag, name, expected=f"some of {', '.join(known)}")
