"""Builds and resumes runs: mmengine's Runner, whose state is a function of the iteration."""

from __future__ import annotations

import os
import time
from functools import partial
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.device import get_device
from mmengine.dist import get_rank, sync_random_seed
from mmengine.logging import MMLogger
from mmengine.model import is_model_wrapper
from mmengine.runner import EpochBasedTrainLoop, IterBasedTrainLoop
from mmengine.runner import Runner as MMEngineRunner
from torch import nn
from torch.utils.data import DataLoader

from mimseg.checkpoints.files import read_checkpoint
from mimseg.checkpoints.loader import load_start
from mimseg.checkpoints.shards import Shards
from mimseg.engine.build_errors import report_build_errors
from mimseg.engine.compile import check_compile, compile_networks
from mimseg.engine.console import hush, say
from mimseg.engine.loops import EpochLoop, IterLoop
from mimseg.engine.optim_wrapper import with_our_wrapper
from mimseg.engine.resume import StateHook, restore
from mimseg.engine.scale_lr import short
from mimseg.engine.sharding import ShardHook
from mimseg.engine.signals import shield_worker
from mimseg.engine.unused import freeze_unused
from mimseg.engine.wrappers import bare
from mimseg.errors import UserError

_LOOPS = {"EpochBasedTrainLoop": EpochLoop, "IterBasedTrainLoop": IterLoop}


class Runner(MMEngineRunner):
    """mmengine's, but that a resumed run goes the way of an unbroken one.

    Its loops place every random draw in the run (`mimseg.randomness`), a checkpoint is read without
    running code, restored whole and compared with the config, and what `load_from` names is loaded
    loudly.

    Attributes:
        base_seed: the run's seed, the same on all ranks.
        rank_seed: what tells this rank's draws from another's; 0 where the config says that ranks
            draw alike (`randomness.diff_rank_seed=False`).
        start: the weights that `load_from` names, as a checkpoint; None on resuming.
        trust: run code in the checkpoint that is resumed.
        unused: what of the backbone does not train, in words; None where all does.
        in_shards: checkpoints are written in parts, one by each process.
        shards: while a checkpoint is made in parts, where its tensors go.
    """

    start: dict | None = None
    in_shards: bool = False
    shards: Shards | None = None
    trust: bool = False

    def set_randomness(self, seed: int | None = None, diff_rank_seed: bool = False, **options: Any):
        self.base_seed = sync_random_seed() if seed is None else seed
        self.rank_seed = get_rank() if diff_rank_seed else 0
        super().set_randomness(self.base_seed, diff_rank_seed, **options)

    def build_model(self, model: nn.Module | dict) -> nn.Module:
        built = super().build_model(model)
        self.unused = freeze_unused(bare(built))  # before a wrapper waits for its gradients
        return built

    def wrap_model(self, model_wrapper_cfg: dict | None, model: nn.Module) -> nn.Module:
        """As mmengine's; with DDP gradients are views of its buckets, which saves a copy of them.

        `model_wrapper_cfg` takes further options of DDP, such as static_graph=True for a model
        whose every step runs the same operations.

        Raises:
            UserError: static_graph with accumulated gradients, in which torch 2.11 fails.
        """
        if self.cfg.get("fsdp"):  # sharded before the first step: mimseg.engine.sharding
            return model if is_model_wrapper(model) else model.to(get_device())
        options = model_wrapper_cfg or {}
        steps = (self.cfg.get("optim_wrapper") or {}).get("accumulative_counts", 1)
        if options.get("static_graph") and steps > 1:
            raise UserError(
                "model_wrapper_cfg.static_graph",
                True,
                expected=f"False with gradients that are accumulated over {steps} steps",
                fix="leave it out, or optim_wrapper.accumulative_counts=1",
            )
        ddp = options.get("type", "MMDistributedDataParallel") == "MMDistributedDataParallel"
        if self.distributed and ddp and not is_model_wrapper(model):
            unused = self.cfg.get("find_unused_parameters", False)
            defaults = dict(broadcast_buffers=False, find_unused_parameters=unused)
            model_wrapper_cfg = defaults | dict(gradient_as_bucket_view=True) | options
        return super().wrap_model(model_wrapper_cfg, model)

    def build_optim_wrapper(self, optim_wrapper: Any) -> Any:
        """As mmengine's; its plain wrapper is replaced by ours."""
        return super().build_optim_wrapper(with_our_wrapper(optim_wrapper, get_device()))

    def save_checkpoint(
        self, *args: object, shards: Shards | None = None, **kwargs: object
    ) -> None:
        """As mmengine's, which saves on the first rank alone, after hooks on all of them.

        Args:
            shards: takes the tensors; None for a whole checkpoint.
        """
        outer, self.shards = self.shards, shards
        try:
            self.call_hook("before_save")
            super().save_checkpoint(*args, **kwargs)
        finally:
            self.shards = outer

    def build_logger(self, *args: object, **kwargs: object) -> MMLogger:
        logger = super().build_logger(*args, **kwargs)
        hush(logger)
        return logger

    def build_train_loop(self, loop: Any) -> Any:
        """As mmengine's; its two loops are replaced by ours."""
        if isinstance(loop, dict):
            loop = dict(loop)
            kind = loop.pop("type", None)
            if kind is None:
                kind = "EpochBasedTrainLoop" if loop.pop("by_epoch", True) else "IterBasedTrainLoop"
            if kind in (EpochBasedTrainLoop, IterBasedTrainLoop):
                kind = kind.__name__
            loop["type"] = _LOOPS.get(kind, kind) if isinstance(kind, str) else kind
        return super().build_train_loop(loop)

    @staticmethod
    def build_dataloader(dataloader: Any, seed: int | None = None, diff_rank_seed: bool = False):
        """As mmengine's, with loader processes that outlive a signal to their group.

        Settings that need loader processes are dropped where there are none.
        """
        if not isinstance(dataloader, DataLoader) and not dataloader.get("num_workers"):
            dataloader = dict(dataloader)
            for key in ("persistent_workers", "prefetch_factor"):
                dataloader.pop(key, None)
        loader = MMEngineRunner.build_dataloader(dataloader, seed, diff_rank_seed)
        if loader is not dataloader:
            loader.worker_init_fn = partial(shield_worker, loader.worker_init_fn)
        return loader

    def load_checkpoint(self, filename: str, *args: object, **kwargs: object) -> dict:
        """The checkpoint of `load_from`, loaded into the model; see `resume` for another."""
        checkpoint, self.start = self.start, None
        if checkpoint is None:
            return super().load_checkpoint(filename, *args, **kwargs)
        self.call_hook("after_load_checkpoint", checkpoint=checkpoint)  # an EMA hook's copy
        load_start(bare(self.model), checkpoint["state_dict"], filename, "load_from")
        return checkpoint

    def resume(self, filename: str, *args: object, **kwargs: object) -> None:
        """Restore a run from a checkpoint. (mmengine's own would run the config's text in it.)"""
        checkpoint = read_checkpoint(filename, self.trust, key="--resume")
        self.call_hook("after_load_checkpoint", checkpoint=checkpoint)
        changes = restore(self, checkpoint, filename)
        say(f"{'resumed':<15}at step {self.iter} of {self.max_iters}", self.logger)
        for line in changes.said:
            say(f"{'changed':<15}{line}", self.logger)
        if changes.schedule:
            rate = short(self.optim_wrapper.param_groups[0]["lr"])
            say(f"{'schedule':<15}computed again; its rate at this step is {rate}", self.logger)
        self._has_loaded = True


def build_runner(cfg: Config) -> Runner:
    """A Runner; what cannot be built from its config is reported as a UserError."""
    # mmengine names a run by the second; two runs of one process in one second would share a scope
    cfg.experiment_name = f"{Path(cfg.filename or 'run').stem}_{os.getpid()}_{time.monotonic_ns()}"
    compiled = check_compile(cfg.pop("compile", None))  # mmengine would compile the whole step
    with report_build_errors(cfg):
        runner = Runner.from_cfg(cfg)
    runner.register_hook(StateHook())
    if cfg.get("fsdp"):
        runner.register_hook(ShardHook(cfg.fsdp))
    compile_networks(bare(runner.model), compiled)
    return runner
