"""Writes all that a resumed run needs into its checkpoints, and restores it."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import PurePath
from typing import Any

import numpy as np
import torch
from mmengine.dist import get_rank, get_world_size
from mmengine.hooks import Hook
from mmengine.logging import HistoryBuffer, print_log
from mmengine.optim import OptimWrapper
from mmengine.runner import EpochBasedTrainLoop, Runner
from torch import nn

from mimseg.checkpoints.loader import load_whole
from mimseg.engine.plan import Changes, compare_plans, facts
from mimseg.engine.wrappers import bare
from mimseg.errors import UserError

HISTORY = 100  # values of each logged number that a checkpoint keeps, more than any mean looks at
KEPT = 5000  # in memory: the console's means reach back a minute
_SET_AT_START = {"cfg", "seed", "experiment_name", "dataset_meta", "loop_stage"}


class StateHook(Hook):
    """Makes a checkpoint complete and plain: `torch.load(weights_only=True)` reads it.

    The history of what is logged is cut, in memory and in the file, so that neither grows with the
    run; `log_processor.custom_cfg` with a window over an epoch or all of it keeps it in memory.
    """

    priority = "LOWEST"  # after the hooks that add to a checkpoint

    def before_train(self, runner: Runner) -> None:
        windows = [cfg.get("window_size") for cfg in runner.log_processor.custom_cfg or ()]
        sizes = [size for size in windows if isinstance(size, int)]
        self._kept = None if {"epoch", "global"} & set(windows) else max([KEPT, *sizes])

    def after_train_iter(self, runner: Runner, *args: object, **kwargs: object) -> None:
        if self._kept is not None:
            for history in runner.message_hub.log_scalars.values():
                history.max_length = self._kept

    def before_save(self, runner: Runner) -> None:
        """Collect what only all ranks together have; the checkpoint is made on the first alone."""
        self._gradients = _gradients(runner)

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        hub = checkpoint["message_hub"]
        length = max(HISTORY, runner.log_processor.window_size)
        hub["log_scalars"] = {
            name: dict(zip(("values", "counts"), (h[-length:] for h in history.data), strict=True))
            for name, history in hub["log_scalars"].items()
        }
        info = hub["runtime_info"]
        hub["runtime_info"] = {k: v for k, v in info.items() if k not in _SET_AT_START}
        checkpoint["meta"]["run"] = _facts(runner)
        for key in ("meta", "message_hub", "param_schedulers"):
            if key in checkpoint:
                checkpoint[key] = plain(checkpoint[key], key)
        if self._gradients is not None:
            checkpoint["gradients"] = self._gradients


def restore(runner: Runner, checkpoint: dict, path: str) -> Changes:
    """Put a run where a checkpoint left it.

    Args:
        runner: built, its training loop, optimizer and schedulers included.
        checkpoint: as `mimseg.checkpoints.files.read_checkpoint` returns it.
        path: of the file, for messages.

    Returns:
        What the config changes about the run.

    Raises:
        UserError: the config changes what cannot change, or the file lacks a part.
    """
    meta = checkpoint.get("meta") or {}
    for key, part in (("iter", meta), ("epoch", meta), ("optimizer", checkpoint)):
        if key not in part:
            expected = f"a checkpoint of a training; this one has no {key!r}"
            fix = "start from its weights with --init or load_from"
            raise UserError("--resume", path, expected=expected, fix=fix)
    loop = runner.train_loop
    changes = compare_plans(meta.get("cfg", ""), runner.cfg, meta.get("run"), _facts(runner), path)
    _check_length(runner, meta["iter"], path)
    model = bare(runner.model)
    report = load_whole(
        model, checkpoint["state_dict"], path, "--resume", "resume with the config of that run"
    )
    if report.resized:
        expected = f"tensors of the model's shapes; {report.resized[0]} has another"
        raise UserError("--resume", path, expected=expected)
    loop._epoch, loop._iter = meta["epoch"], meta["iter"]
    loop.to_validate = not meta.get("validated", False)
    _restore_hub(runner, checkpoint.get("message_hub") or {})
    _restore_optimizer(runner, checkpoint, changes.schedule)
    _restore_gradients(model, checkpoint.get("gradients"))
    return changes


def plain(value: Any, path: str = "") -> Any:
    """A value made of Python's own types and tensors alone, as the safe reader takes them.

    What cannot be written so is left out, and logged by its path.
    """
    if value is None or isinstance(value, (bool, int, float, str, bytes, torch.Tensor)):
        return value if type(value).__module__ in ("builtins", "torch") else _base(value)
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray):
        return plain(value.tolist(), path)
    if isinstance(value, PurePath):
        return str(value)
    if isinstance(value, Mapping):
        items = ((key, plain(item, f"{path}.{key}")) for key, item in value.items())
        return {plain(key): item for key, item in items if item is not _LEFT_OUT}
    if isinstance(value, (list, tuple, set, frozenset)) or type(value).__name__ == "deque":
        items = [plain(item, f"{path}.{i}") for i, item in enumerate(value)]
        items = [item for item in items if item is not _LEFT_OUT]
        return tuple(items) if isinstance(value, tuple) else items
    if not callable(value):  # a scheduler's function is there again when it is built
        print_log(f"{path}, a {type(value).__name__}, is not saved with checkpoints", "current")
    return _LEFT_OUT


_LEFT_OUT = object()


def _base(value: Any) -> Any:
    """The plain value of a subclass, such as an enum's or NumPy's float."""
    kinds = (bool, int, float, str, bytes)
    kind = next((kind for kind in kinds if isinstance(value, kind)), None)
    return value if kind is None else kind(value)


def _facts(runner: Runner) -> dict:
    loader = runner.train_loop.dataloader
    by_epoch = isinstance(runner.train_loop, EpochBasedTrainLoop)
    samples = len(loader.dataset) if hasattr(loader.dataset, "__len__") else None
    batch_size = runner.cfg.train_dataloader.get("batch_size", 1)
    return facts(get_world_size(), batch_size, samples, len(loader) if by_epoch else None)


def _check_length(runner: Runner, iteration: int, path: str) -> None:
    """Raise UserError where the schedule is over before the iterations that are done."""
    if iteration > runner.max_iters:
        by_epoch = isinstance(runner.train_loop, EpochBasedTrainLoop)
        key = "max_epochs" if by_epoch else "max_iters"
        raise UserError(
            f"train_cfg.{key}",
            runner.cfg.train_cfg.get(key),
            expected=f"more than the run has done: {path} is of step {iteration}, and the config "
            f"ends at {runner.max_iters}",
            fix="resume with the length of that run, or a longer one",
        )


def _restore_hub(runner: Runner, state: Mapping) -> None:
    hub = runner.message_hub
    for name, saved in state.get("log_scalars", {}).items():
        if isinstance(saved, HistoryBuffer):  # of version 0.2 and before
            saved = dict(zip(("values", "counts"), (list(h) for h in saved.data), strict=True))
        values, counts = saved["values"][-HISTORY:], saved["counts"][-HISTORY:]
        hub.log_scalars[name] = HistoryBuffer(values, counts)
    for name, value in state.get("runtime_info", {}).items():
        if name not in _SET_AT_START:
            hub.runtime_info[name] = value
    hub._resumed_keys.update(state.get("resumed_keys", {}))


def _restore_optimizer(runner: Runner, checkpoint: Mapping, changed: bool) -> None:
    """The optimizer's state and the schedules', which are computed again where they changed."""
    wrapper, iteration = runner.optim_wrapper, checkpoint["meta"]["iter"]
    if not changed:
        wrapper.load_state_dict(checkpoint["optimizer"])
        saved = _by_optimizer(checkpoint.get("param_schedulers"))
        schedulers = _by_optimizer(runner.param_schedulers)
        for name, states in saved.items():
            for scheduler, state in zip(schedulers[name], states, strict=True):
                scheduler.load_state_dict(state)
        return
    optimizers = [wrapper] if isinstance(wrapper, OptimWrapper) else list(wrapper.values())
    settings = [
        [{k: v for k, v in group.items() if k != "params"} for group in optimizer.param_groups]
        for optimizer in optimizers
    ]
    wrapper.load_state_dict(checkpoint["optimizer"])
    for optimizer, groups in zip(optimizers, settings, strict=True):
        for group, values in zip(optimizer.param_groups, groups, strict=True):
            group.update(values)
    _step_schedules(runner, iteration)
    rates = [group["lr"] for optimizer in optimizers for group in optimizer.param_groups]
    if iteration < runner.max_iters and not any(rates):
        raise UserError(
            "param_scheduler",
            f"a rate of 0 at step {iteration}",
            expected=f"a schedule for the steps up to {runner.max_iters}",
            fix="let the last schedule's end be the run's (param_scheduler.N.end)",
        )


def _by_optimizer(schedulers: Mapping | list | None) -> Mapping[str, list]:
    """Schedulers, or their states, by the name of the optimizer, which a single one has not."""
    return schedulers if isinstance(schedulers, Mapping) else {"": schedulers or []}


def _step_schedules(runner: Runner, iteration: int) -> None:
    """Step the schedules from the start to an iteration, as the training would have."""
    groups = _by_optimizer(runner.param_schedulers).values()
    by_epoch = isinstance(runner.train_loop, EpochBasedTrainLoop)
    length = len(runner.train_loop.dataloader) if by_epoch else None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the optimizer has made its steps in another process
        for done in range(1, iteration + 1):
            ended = length is not None and done % length == 0
            for group in groups:
                for scheduler in group:
                    if not scheduler.by_epoch:
                        scheduler.step()
                for scheduler in group if ended else ():
                    if scheduler.by_epoch:
                        scheduler.step()


def _gradients(runner: Runner) -> list[dict] | None:
    """Gradients by rank and parameter, where some are accumulated that no step has used yet."""
    wrapper = runner.optim_wrapper
    if not isinstance(wrapper, OptimWrapper) or wrapper.should_update():
        return None
    mine = {}
    for name, parameter in bare(runner.model).named_parameters():
        if (gradient := parameter.grad) is not None:
            whole = gradient.full_tensor() if hasattr(gradient, "full_tensor") else gradient
            mine[name] = whole.cpu()
    if get_world_size() == 1:
        return [mine]
    ranks = [None] * get_world_size() if get_rank() == 0 else None
    torch.distributed.gather_object(mine, ranks)
    return ranks


def _restore_gradients(model: nn.Module, saved: list[dict] | None) -> None:
    if not saved:
        return
    # of another number of processes: their mean, which for a single part is that part
    parts = [saved[get_rank()]] if len(saved) == get_world_size() else saved
    for name, parameter in model.named_parameters():
        gradients = [part[name] for part in parts if name in part]
        if gradients:
            parameter.grad = (torch.stack(gradients).sum(0) / len(parts)).to(parameter)
