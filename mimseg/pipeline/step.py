"""Describes one named step of a pipeline, and keeps its state on disk."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from mimseg.errors import UserError
from mimseg.files import read_json, write_json
from mimseg.pipeline.places import Places


@dataclass
class Step:
    """A command with a folder of its own; its state is `<folder>/step.json`.

    Args:
        name: unique; also the folder's name in the work dir.
        argv: the command.
        kind: steps of one kind take about the same time (for the ETA).
        needs: steps that come first; when one of them runs again, so does this one.
        after: steps that come first, for the order alone.
        config: a config file whose content (with its bases) belongs to the fingerprint.
        options: what the command line changes in `config`; for the progress only.
        outputs: files the command promises, relative to the folder.
        resume: whether an unfinished run continues with `--resume`.
        urgent: whether it runs before other steps that could start at the same time.
        late: called when `needs` and `after` are finished; gives further arguments and needs that
            were not known before, such as the grid point that was chosen.
        facts: what the report needs: task, init, seed, ...
        result: says in a few words what the finished step gave, such as its metric; it is called
            with the step's folder.
    """

    name: str
    argv: list[str]
    kind: str = "step"
    needs: list[str] = field(default_factory=list)
    after: list[str] = field(default_factory=list)
    config: str | None = None
    options: dict[str, Any] = field(default_factory=dict)
    outputs: list[str] = field(default_factory=list)
    resume: bool = False
    urgent: bool = False
    late: Callable[[], tuple[list[str], list[str]]] | None = None
    facts: dict[str, Any] = field(default_factory=dict)
    result: Callable[[Path], str] | None = None

    def resolve(self) -> tuple[list[str], list[str]]:
        """The whole command and all needs; call it when `needs` and `after` are finished."""
        argv, needs = self.late() if self.late else ([], [])
        return [*self.argv, *argv], [*self.needs, *needs]


class StepState:
    """The content of `step.json` in a step's folder, and the changes to it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.path = folder / "step.json"
        self.log = folder / "log.txt"
        content = read_json(self.path)
        self.content: dict[str, Any] = content if isinstance(content, dict) else {}

    @property
    def finished(self) -> bool:
        return self.content.get("returncode") == 0

    @property
    def fingerprint(self) -> str | None:
        return self.content.get("fingerprint")

    @property
    def seconds(self) -> float:
        """Seconds of all attempts; one that was killed counts up to its last log line."""
        seconds = self.content.get("seconds", 0.0)
        if self.content and self.content.get("returncode") is None and self.log.is_file():
            seconds += max(0.0, self.log.stat().st_mtime - self.content["started"])
        return seconds

    def begin(self, parts: dict[str, Any], command: str, facts: dict[str, Any]) -> None:
        """Note that an attempt starts now."""
        self.content = {
            "fingerprint": digest(parts),
            "parts": parts,
            "command": command,
            "seconds": self.seconds,
            "started": time.time(),
            "attempts": self.content.get("attempts", 0) + 1,
            "returncode": None,
            **facts,
        }
        write_json(self.path, self.content)

    def end(self, returncode: int) -> None:
        """Note that the attempt has ended."""
        seconds = self.content["seconds"] + time.time() - self.content["started"]
        self.content |= {"seconds": round(seconds, 2), "returncode": returncode}
        write_json(self.path, self.content)

    def missing(self, outputs: list[str]) -> list[str]:
        """The promised outputs that are not there."""
        return [name for name in outputs if not (self.folder / name).exists()]


def fingerprint_parts(
    step: Step, argv: list[str], needs: dict[str, str], places: Places
) -> dict[str, Any]:
    """What a step's result depends on, in parts so that a change can be named.

    Args:
        needs: name -> fingerprint of every step it builds on.
    """
    return {
        "command": digest([places.plain(word, hide_data=False) for word in argv]),
        "config": config_digest(places.config(step.config)) if step.config else None,
        "needs": dict(sorted(needs.items())),
    }


def what_changed(old: dict[str, Any], new: dict[str, Any], config: str | None) -> str:
    """Say in a few words why a step has to run again."""
    reasons = []
    if old.get("command") != new["command"]:
        reasons.append("its command changed")
    if old.get("config") != new["config"]:
        reasons.append(f"{config} changed")
    before = old.get("needs", {})
    moved = [name for name, value in new["needs"].items() if before.get(name) != value]
    if moved:
        reasons.append(f"it builds on {', '.join(moved)}")
    return " and ".join(reasons) or "its inputs changed"


def check_steps(steps: list[Step], places: Places) -> None:
    """See that the steps can run in their order.

    Raises:
        UserError: a name used twice, a need that comes later, or a config that does not load.
    """
    names = [step.name for step in steps]
    for step in steps:
        if names.count(step.name) > 1:
            raise UserError("name", step.name, expected="a different name for every step")
        for other in [*step.needs, *step.after]:
            if other not in names[: names.index(step.name)]:
                raise UserError("needs", other, expected=f"a step that comes before {step.name}")
        if step.config:
            load_config(places.config(step.config))


def digest(value: Any) -> str:
    """A short hash of a JSON-like value."""
    text = json.dumps(value, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


@cache
def config_digest(path: str) -> str:
    """A short hash of a config's values, bases included; comments and layout do not count."""
    return digest(load_config(path).to_dict())


@cache
def load_config(path: str) -> Any:
    """mmengine's Config of a file, loaded once; nobody may change what this returns.

    Raises:
        UserError: the file is missing or is no config.
    """
    from mmengine.config import Config  # here, so that the rest works without mmengine

    if not Path(path).is_file():
        raise UserError("config", path, expected="an existing file", fix="correct the path")
    try:
        return Config.fromfile(path, import_custom_modules=False)
    except Exception as error:
        raise UserError("config", path, expected=f"a config that loads ({error})") from error
