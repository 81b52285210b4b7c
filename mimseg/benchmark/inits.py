"""Where an initialisation's weights come from."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from mimseg.pipeline.places import Places
from mimseg.pipeline.step import load_config

RANDOM = "random"


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
        """Arguments of `mimseg train`."""
        return ["--init", self.checkpoint] if self.checkpoint else []


def inits_of(task: dict[str, Any], config: dict[str, Any]) -> list[str]:
    """The initialisations that a task of a benchmark's config compares."""
    return list(task.get("inits") or config.get("inits") or [RANDOM])


def sources(pretrains: list[dict[str, Any]], places: Places) -> dict[str, Source]:
    """The initialisations that `inits` may name, with their sources.

    'random'; each pretraining by its name, which is its last student; and each stage of one whose
    config has `stages`, as NAME-STAGE.

    Raises:
        UserError: a pretraining's config is missing or does not load.
    """
    found = {RANDOM: Source()}
    for item in pretrains:
        name, options = item["name"], dict(item.get("finetune", {}))
        if "checkpoint" in item:  # somebody else's weights
            found[name] = Source(item["checkpoint"], options=options)
            continue
        step = f"pretrain-{name}"
        found[name] = Source(f"{{work_dir}}/{step}", [step], options)
        config = load_config(places.config(item["config"]))
        for number, stage in enumerate(config.get("stages") or []):
            folder = stage.get("name", f"stage{number}")
            found[f"{name}-{folder}"] = Source(f"{{work_dir}}/{step}/{folder}", [step], options)
    return found
