"""Compares a run's plan with the config that resumes it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from mmengine.config import Config

from mimseg.checkpoints.written_config import parse_config
from mimseg.errors import UserError

# what may change without changing what is computed
_FREE = {
    *("train_cfg.val_interval", "train_cfg.val_begin", "train_cfg.dynamic_intervals"),
    *(f"train_dataloader.{key}" for key in ("num_workers", "persistent_workers", "pin_memory")),
    *(f"train_dataloader.{key}" for key in ("prefetch_factor", "timeout", "batch_size")),
    *("randomness.deterministic", "train_cfg.fast_forward_on_resume"),
}
_FREE_NAMES = {"init_cfg", "with_cp", "trust"}
_SECTIONS = (
    *("model", "optim_wrapper", "param_scheduler", "train_cfg", "train_dataloader"),
    *("randomness", "custom_hooks"),
)
_LENGTHS = ("max_epochs", "max_iters")
_ENDS = ("end", "T_max", "total_steps")
_SCHEDULE = ("param_scheduler", "train_cfg.max_epochs", "train_cfg.max_iters")
_FIXED_OPTIMIZER = ("optim_wrapper.optimizer.type",)
_SAID = (
    "custom_hooks",
    *(f"optim_wrapper.{key}" for key in ("clip_grad", "type", "dtype", "skip_nonfinite")),
)
_MISSING = object()


@dataclass
class Changes:
    """What a resuming config changes about a run.

    Args:
        said: a line for each setting.
        schedule: whether length, rate or another of the optimizer's settings is among them, so that
            the schedule is computed again.
    """

    said: list[str] = field(default_factory=list)
    schedule: bool = False


def facts(processes: int, batch_size: int, samples: int | None, steps: int | None) -> dict:
    """What a checkpoint keeps of a plan beyond its config.

    Args:
        processes: how many trained.
        batch_size: images per process and step.
        samples: length of the data set; None for a stream.
        steps: length of an epoch in steps; None for a run by iterations.
    """
    return dict(processes=processes, batch_size=batch_size, samples=samples, epoch=steps)


def compare_plans(
    text: str, present: Config, then: Mapping | None, now: Mapping, path: str
) -> Changes:
    """Compare a checkpoint's plan with a config.

    Length, rate, the optimizer's numbers and the schedule may change. Paths, hooks and precision
    may, too; the run is then not bit-equal to an unbroken one. The number of processes may where
    the images per step stay. Everything else that decides what is computed may not.

    Args:
        text: the config in the checkpoint; it is not executed.
        present: the config that resumes.
        then, now: `facts` of the checkpoint (None in those of old versions) and of this run.
        path: of the checkpoint, for messages.

    Returns:
        The changes that are allowed.

    Raises:
        UserError: one that is not.
    """
    changes = Changes()
    _compare_facts(then, now, path, changes)
    before, after = parse_config(text), parse_config(present.pretty_text)
    if not before:
        changes.said.append(f"{path} has no config that can be compared with this one")
        return changes
    for section in _SECTIONS:
        if section not in before and section != "custom_hooks":  # code, or a config without it
            continue
        old = dict(_leaves(before.get(section, {}), section))
        new = dict(_leaves(after.get(section, {}), section))
        for key in dict.fromkeys([*old, *new]):
            was, value = old.get(key, _MISSING), new.get(key, _MISSING)
            if was != value:
                _judge(key, was, value, path, changes)
    _check_ends(before, after)
    return changes


def _check_ends(before: Mapping, after: Mapping) -> None:
    """Raise UserError where a run gets longer and a schedule that ended with it does not."""
    for length in _LENGTHS:
        was, now = (plan.get("train_cfg", {}).get(length) for plan in (before, after))
        if was is None or now is None or now <= was:
            continue
        leaves = _leaves(after.get("param_scheduler", []), "param_scheduler")
        ends = [(key, value) for key, value in leaves if key.rpartition(".")[2] in _ENDS]
        last = max((value for _, value in ends if isinstance(value, int)), default=now)
        for key, value in ends:
            if value == last == was:
                raise UserError(
                    key,
                    value,
                    expected=f"{now}, the run's new end (train_cfg.{length}); it was {was} before",
                    fix=f"{key}={now}, or the steps after {was} would have the rate that it ended "
                    "with",
                )


def _judge(key: str, was: Any, value: Any, path: str, changes: Changes) -> None:
    """Note a change, or refuse it."""
    if key in _FREE or _FREE_NAMES & set(key.split(".")):
        return
    if key == "randomness.seed" and None in (was, value):  # drawn, and taken from the checkpoint
        return
    schedule = key.startswith(_SCHEDULE)
    if key.startswith("optim_wrapper.optimizer.") and not key.startswith(_FIXED_OPTIMIZER):
        schedule = True
    if schedule or key.startswith(_SAID) or _is_place(was, value):
        changes.schedule |= schedule
        changes.said.append(f"{key} was {_text(was)} and is {_text(value)}")
        return
    raise UserError(
        key,
        None if value is _MISSING else value,
        expected=f"{_text(was)}, as in the run that {path} is of",
        fix="keep it, or start another run from those weights: another --work-dir with --init "
        "(the backbone) or load_from (all of it)",
    )


def _compare_facts(then: Mapping | None, now: Mapping, path: str, changes: Changes) -> None:
    if then is None:
        return
    images, were = (plan["processes"] * plan["batch_size"] for plan in (now, then))
    if images != were:
        raise UserError(
            "train_dataloader.batch_size",
            f"{now['batch_size']} in each of {now['processes']} processes",
            expected=f"{were} images per step in all, as in the run that {path} is of "
            f"({then['batch_size']} in each of {then['processes']})",
            fix=f"train_dataloader.batch_size={max(1, were // now['processes'])}",
        )
    names = {"samples": "images in the training set", "epoch": "steps per epoch"}
    for key, name in names.items():
        if then[key] != now[key]:
            raise UserError(
                "train_dataloader.dataset",
                f"{now[key]} {name}",
                expected=f"{then[key]}, as in the run that {path} is of",
                fix="train on the same data, or start another run with --init or load_from",
            )
    if now["processes"] != then["processes"]:
        changes.said.append(f"processes were {then['processes']} and are {now['processes']}")


def _leaves(node: Any, path: str) -> Iterator[tuple[str, Any]]:
    """Dotted key -> value of all that is no dict and no list of dicts."""
    if isinstance(node, Mapping):
        for key, value in node.items():
            yield from _leaves(value, f"{path}.{key}")
    elif isinstance(node, (list, tuple)):
        if any(isinstance(value, Mapping) for value in node):
            for index, value in enumerate(node):
                yield from _leaves(value, f"{path}.{index}")
        else:
            yield path, list(node)
    else:
        yield path, node


def _is_place(was: Any, value: Any) -> bool:
    """Whether both are paths: data and weights may be moved."""
    return all(isinstance(text, str) and "/" in text for text in (was, value))


def _text(value: Any) -> str:
    return "not set" if value is _MISSING else repr(value)
