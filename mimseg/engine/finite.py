"""Ends a run that diverges, and writes down the step at which it did."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import Any

import torch
from mmengine.dist import (
    all_gather_object,
    all_reduce,
    barrier,
    get_world_size,
    is_main_process,
)
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch import Tensor

from mimseg.checkpoints.files import UntrustedCheckpoint, find_resumable
from mimseg.engine.console import learning_rate
from mimseg.engine.optim_wrapper import OptimWrapper
from mimseg.engine.scale_lr import short
from mimseg.engine.verdict import Judge, Verdict
from mimseg.errors import EndOfRun
from mimseg.files import replacing, saving

DIVERGED = "diverged.pth"  # in the work dir; never taken for a checkpoint to resume from
CODE = 1
_NAMED = 8  # images that a message or a line of the log names


@dataclass(frozen=True)
class _Iteration:
    """What is kept of an iteration until its step's verdict is read."""

    number: int
    epoch: int
    rate: float
    losses: dict[str, Any]


class FiniteHook(Hook):
    """Read the verdicts on the steps, warn of skipped ones, and end the run after too many.

    On a CPU a verdict is read after its own step, on a GPU after the next one; both before a
    checkpoint is saved, a validation, and the end of an epoch and of the training. No checkpoint
    holds weights that are not finite, then, and none is removed for one that does.

    `diverged.pth` holds the state before the first of the steps too many in the form of a
    checkpoint, and in `meta["diverged"]` what `mimseg.engine.replay` needs to repeat that step.

    The losses of mmengine's own `AmpOptimWrapper` for float16, whose infinite gradients are normal,
    and of wrappers of another origin are looked at, too. They have stepped by then, so that there
    is no state to write.

    Raises:
        EndOfRun: with code 1, on all ranks; the first one's message says all that is known.
    """

    priority = "HIGH"  # before averages, schedules and checkpoints; after the losses are logged

    def before_train(self, runner: Runner) -> None:
        wrapper = runner.optim_wrapper
        self._steps = isinstance(wrapper, OptimWrapper)
        self.judge = wrapper.judge if self._steps else Judge()
        self._iterations: list[_Iteration] = []
        self._ending = False

    def before_train_iter(self, runner: Runner, *_: object, **__: object) -> None:
        self.judge.iteration = runner.iter

    def after_train_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: dict | None = None,
        outputs: dict | None = None,
    ) -> None:
        losses = {
            key: value.detach() if isinstance(value, Tensor) else value
            for key, value in (outputs or {}).items()
            if "loss" in key
        }
        iteration = _Iteration(runner.iter, runner.epoch, learning_rate(runner), losses)
        self._iterations.append(iteration)
        if not self._steps:
            self.judge.decide(_any_bad(losses), torch.zeros(()))
        self.settle(runner, wait=False)

    def before_save(self, runner: Runner) -> None:
        """Before a checkpoint, on all ranks (`mimseg.engine.runner`)."""
        if self._ending:
            return
        self.settle(runner)
        if not _finite(runner.model.parameters()):
            self._ending = True
            what = f"diverged: after step {self.judge.iteration + 1} the weights are not finite"
            raise self._end_of_run(runner, what, replay=False)

    def before_val(self, runner: Runner) -> None:
        self.settle(runner)

    def after_train_epoch(self, runner: Runner) -> None:
        self.settle(runner)

    def after_train(self, runner: Runner) -> None:
        self.settle(runner)

    def settle(self, runner: Runner, wait: bool = True) -> None:
        """Act on the verdicts that are there; with `wait`, on all. All ranks take part."""
        for verdict in self.judge.verdicts(wait):
            step = [each for each in self._iterations if each.number <= verdict.iteration]
            self._iterations = [e for e in self._iterations if e.number > verdict.iteration]
            if verdict.over:
                self._end(runner, step, verdict)
            if verdict.skipped:
                runner.logger.warning(
                    f"step {verdict.iteration + 1} was skipped, {verdict.skipped} of "
                    f"{self.judge.allowed} allowed in a row: {_causes(step, verdict)}"
                )

    def _end(self, runner: Runner, step: list[_Iteration], verdict: Verdict) -> None:
        self._ending = True
        last = step[-1]
        numbers = [each.number for each in step]
        losses = [{key: number(value) for key, value in e.losses.items()} for e in step]
        mine = dict(seed=runner.rank_seed, losses=losses, samples=_samples(runner, numbers))
        record = dict(
            iterations=numbers,
            max_iters=runner.max_iters,
            epoch=last.epoch,
            seed=runner.base_seed,
            ranks=all_gather_object(mine),
            bad_ranks=list(verdict.ranks),
            norm=verdict.norm,
            learning_rate=last.rate,
            precision=getattr(runner.optim_wrapper, "precision", None),
        )
        failure = self._write(runner, record) if self._steps else ""
        what = (
            f"diverged at step {last.number + 1} of {runner.max_iters} (epoch {last.epoch + 1}, "
            f"learning rate {short(last.rate)}): {_causes(step, verdict)}{failure}"
        )
        raise self._end_of_run(runner, what, replay=self._steps and not failure)

    def _write(self, runner: Runner, record: dict) -> str:
        """Write the state before the step. Returns what hindered it."""
        path = Path(runner.work_dir) / DIVERGED
        temporary = saving(path)
        main, failure = is_main_process(), ""
        meta = dict(iter=record["iterations"][0], epoch=record["epoch"], diverged=record)
        try:
            with replacing(path, temporary) if main else nullcontext():
                runner.save_checkpoint(str(path.parent), temporary.name, meta=meta, by_epoch=False)
        except OSError as error:
            failure = f"; {path} could not be written ({error.strerror or error})"
        barrier()  # a launcher ends all processes with the first one
        return failure

    def _end_of_run(self, runner: Runner, what: str, replay: bool) -> EndOfRun:
        """With what happened, the last finite checkpoint and what to do; for the log file, too."""
        if not is_main_process():
            return EndOfRun("diverged: see the first process", CODE)
        try:
            newest = find_resumable(runner.work_dir, runner.trust)
        except UntrustedCheckpoint as error:
            newest = error.value
        ways = "a lower optim_wrapper.optimizer.lr, or --skip-nonfinite N to pass over N such steps"
        lines = [
            f"{what}.",
            f"The last finite checkpoint is {newest}: --resume continues from it, with {ways}."
            if newest
            else f"No checkpoint was saved before: start again with {ways}.",
        ]
        if replay:
            lines.append(f"To see in which module it began: mimseg replay {runner.work_dir}")
        text = "\n".join(lines)
        runner.logger.error(text, extra={"said": True})
        return EndOfRun(text, CODE)


def _samples(runner: Runner, iterations: list[int]) -> list[dict] | None:
    """Index and image of each sample, by iteration; None where the order is not ours."""
    loader = runner.train_loop.dataloader
    recent = getattr(loader.batch_sampler, "recent", {})
    if not all(number in recent for number in iterations):
        return None
    return [
        {"indices": recent[n], "images": [image_of(loader.dataset, i) for i in recent[n]]}
        for n in iterations
    ]


def image_of(dataset: Any, index: int) -> str:
    """The path of a sample's image, or its index where the data set does not know."""
    info = getattr(dataset, "get_data_info", None)
    path = info(index).get("img_path") if info is not None else None
    return str(index if path is None else path)


def _causes(step: list[_Iteration], verdict: Verdict) -> str:
    """What is not finite, in words."""
    bad = {}
    for iteration in step:
        for key, value in iteration.losses.items():
            if not isfinite(number(value)):
                bad[key] = f"{key} is {number(value)}"
    if len(bad) > 1:
        bad.pop("loss", None)  # their sum
    causes = list(bad.values())
    if verdict.ranks and not causes:
        causes.append("the loss is not finite")
    if not verdict.gradient:
        causes.append("the gradient is not finite")
    if verdict.ranks and get_world_size() > 1:
        causes.append(f"ranks with such a loss: {', '.join(map(str, verdict.ranks[:_NAMED]))}")
    return ", ".join(causes)


def number(value: Any) -> float:
    """A logged value on the host."""
    return float(value.detach().float().mean() if isinstance(value, Tensor) else value)


def _any_bad(losses: dict[str, Any]) -> Tensor | bool:
    """Whether a value is not finite, on the device."""
    bad: Tensor | bool = False
    for value in losses.values():
        bad = bad | ~torch.as_tensor(value).isfinite().all()
    return bad


def _finite(parameters: Any) -> bool:
    """Whether all parameters, on all ranks, are finite."""
    bad: Tensor | None = None
    with torch.no_grad():
        for parameter in parameters:
            local = parameter.to_local() if hasattr(parameter, "to_local") else parameter
            here = ~local.isfinite().all()
            bad = here if bad is None else bad | here
    if bad is None:
        return True
    flag = bad.float().reshape(1)
    all_reduce(flag, "max")
    return not flag.item()
