"""Shortens a training: its loop, learning rate schedule, hooks, and what slots count in steps."""

from __future__ import annotations

from typing import Any

from mmengine.config import Config

STEPS = 2
# what a slot counts in training steps: the share of a run that it is brought to
COUNTED = {"warmup_steps": 0.1, "anneal_steps": 1.0}


def shorten(cfg: Config, steps: int = STEPS) -> None:
    """Let a training take so many steps, or one epoch, validate once and save once, in place.

    The learning rate goes through its whole schedule: each part of it keeps its share of the run,
    in steps, from one step upwards. Every step is one of the optimizer and is logged.

    Args:
        cfg: a whole config; where it counts epochs, its data has to be cut to `steps` batches.
        steps: length of the run.
    """
    loop = cfg.train_cfg
    by_epoch = loop.get("max_epochs") is not None
    length = loop.get("max_epochs") or loop.get("max_iters")
    schedulers = cfg.get("param_scheduler") or []
    for scheduler in schedulers if isinstance(schedulers, list) else [schedulers]:
        _shorten_scheduler(scheduler, steps, by_epoch, length)
    for key, value in (("max_epochs", 1), ("max_iters", steps)):
        if loop.get(key) is not None:
            loop[key] = value
    loop.val_interval = 1 if by_epoch else steps
    for key in ("val_begin", "dynamic_intervals"):
        loop.pop(key, None)
    hooks = {"logger": {"type": "LoggerHook"}, "checkpoint": {"type": "CheckpointHook"}}
    hooks |= cfg.get("default_hooks") or {}
    if hooks["logger"]:  # None leaves one out
        hooks["logger"]["interval"] = 1
    if saving := hooks["checkpoint"]:
        saving["interval"] = 1 if saving.get("by_epoch", True) else steps
        saving.pop("save_begin", None)
    cfg.default_hooks = hooks
    cfg.optim_wrapper.pop("accumulative_counts", None)
    cfg.pop("auto_scale_lr", None)  # the batch is not the user's
    count_steps(cfg.model, steps)


def _shorten_scheduler(scheduler: dict, steps: int, by_epoch: bool, length: int | None) -> None:
    """Bring a part of the schedule to steps.

    Args:
        scheduler: its config.
        steps: length of the run.
        by_epoch: whether the full run counts epochs.
        length: of the full run, in epochs or iterations.
    """
    if scheduler.get("by_epoch", True) != by_epoch or not length:
        length = None  # it counts in another unit than the run: its share is not known
    first, last = scheduler.get("begin") or 0, scheduler.get("end")
    if length is None:
        begin, end = int(first > 0), steps if last is None or first else 1
    else:
        begin = -(-first * steps // length)
        end = steps if last is None else -(-min(last, length) * steps // length)
    begin = min(int(begin), steps - 1)
    scheduler.update(by_epoch=False, begin=begin, end=max(begin + 1, int(end)))
    scheduler.pop("convert_to_iter_based", None)
    scheduler.pop("T_max", None)  # end - begin unless given
    if "milestones" in scheduler:
        places = (round(one * steps / (length or one)) for one in scheduler["milestones"])
        scheduler["milestones"] = [min(max(1, place), steps - 1) for place in places]
    for key, value in (("step_size", 1), ("total_steps", steps)):
        if key in scheduler:
            scheduler[key] = value


def count_steps(node: Any, steps: int) -> None:
    """Bring what slots count in training steps, below a config node, to the length of a run."""
    if isinstance(node, dict):
        for key, share in COUNTED.items():
            if isinstance(node.get(key), int):
                node[key] = max(1, round(share * steps))
        node = list(node.values())
    for value in node if isinstance(node, (list, tuple)) else ():
        count_steps(value, steps)
