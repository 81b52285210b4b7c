"""One Runner run: train or test."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.dist import get_world_size, init_dist, is_distributed, is_main_process
from mmengine.hooks import Hook
from mmengine.logging import MMLogger
from mmengine.model import BaseTTAModel, is_model_wrapper
from mmengine.runner import Runner
from torch import nn

from mimseg.checkpoints.files import find_resumable, read_checkpoint, resolve_checkpoint
from mimseg.checkpoints.loader import load_start, load_whole, weights_in
from mimseg.engine.amp_optim_wrapper import fall_back
from mimseg.engine.compile import check_compile, compile_networks
from mimseg.engine.console import ConsoleHook, hush, plain_metrics, say
from mimseg.engine.layer_decay import check_floors
from mimseg.engine.prepare import use_tta, view_sizes
from mimseg.engine.scale_lr import LearningRate, scale_lr
from mimseg.engine.summary import say_model, say_plan, say_result, say_test
from mimseg.engine.unused import UntrainedHook, freeze_unused, report_unreduced
from mimseg.errors import UserError, report_unknown_types
from mimseg.files import write_json


class _Runner(Runner):
    """mmengine's, but that `load_from` is read as `start` says and loaded loudly.

    mmengine's own way passes over what does not fit, and runs code that a file holds.
    """

    start: dict | None = None

    def build_model(self, model: nn.Module | dict) -> nn.Module:
        built = super().build_model(model)
        self.unused = freeze_unused(_bare(built))  # before a wrapper waits for its gradients
        return built

    def build_logger(self, *args: object, **kwargs: object) -> MMLogger:
        logger = super().build_logger(*args, **kwargs)
        hush(logger)
        return logger

    def load_checkpoint(self, filename: str, *args: object, **kwargs: object) -> dict:
        if self.start is None:  # on resuming: a file that find_resumable has looked into
            return super().load_checkpoint(filename, *args, **kwargs)
        checkpoint, self.start = self.start, None
        self.call_hook("after_load_checkpoint", checkpoint=checkpoint)  # an EMA hook's copy
        load_start(_bare(self.model), checkpoint["state_dict"], filename, "load_from")
        return checkpoint


class _RunHook(Hook):
    """Sees to the schedule and a resumed run's teachers, and remembers the last metrics."""

    metrics: dict | None = None

    def __init__(self, rate: LearningRate) -> None:
        self.rate = rate

    def before_run(self, runner: Runner) -> None:
        check_floors(runner.param_schedulers or (), self.rate.factor)

    def before_train(self, runner: Runner) -> None:
        bank = getattr(_bare(runner.model), "bank", None)
        if bank is None or not runner.cfg.get("resume"):
            return
        for name, teacher in bank.teachers.items():
            if teacher.saved and name not in bank.restored:
                raise UserError(
                    f"teacher ({name})",
                    "drawn anew",
                    expected=f"the one that {runner.cfg.load_from} was trained with",
                    fix="resume with the config that the run was started with",
                )

    def after_val_epoch(self, runner: Runner, metrics: dict | None = None) -> None:
        self.metrics = metrics


def train(cfg: Config, resume: bool = False, trust: bool = False) -> dict:
    """Train in `cfg.work_dir` and write its done.json.

    The learning rate is scaled to the images per step (`scale_lr`), and bfloat16 that a config
    asks for falls back to float32 where the device has none.

    Args:
        cfg: a full config; its `load_from` is a checkpoint or a work dir.
        resume: go on from the newest checkpoint that loads; a finished run returns its record.
        trust: unpickle code in the file of `load_from` and in the checkpoints of a resumed run.

    Returns:
        The record: config, seconds of this start, checkpoint (in the work dir), metrics, and the
        mean training loss at the end.
    """
    join_group(cfg)
    work_dir = Path(cfg.work_dir)
    record_file = work_dir / "done.json"
    schedule = cfg.train_cfg.to_dict()
    if resume and record_file.exists():
        record = json.loads(record_file.read_text())
        if record["schedule"] == schedule:
            say(f"{work_dir} is finished: nothing to do")
            return record
    start = time.monotonic()
    cfg.resume = False
    if resume and (checkpoint := find_resumable(work_dir, trust)):
        cfg.resume, cfg.load_from = True, str(checkpoint)
    elif cfg.get("load_from"):
        cfg.load_from = resolve_checkpoint(cfg.load_from, "load_from")
    rate = scale_lr(cfg, get_world_size())
    if reason := fall_back(cfg):
        say(reason)
    runner = build_runner(cfg)
    say_model(runner, _bare(runner.model))
    if runner.unused:
        say(f"{'not trained':<15}{runner.unused}", runner.logger)
    if (bank := getattr(_bare(runner.model), "bank", None)) is not None:
        bank.require_sources()  # before the data set is read
    if cfg.get("load_from") and not cfg.resume:
        runner.start = _start(runner, trust)
    batch = get_world_size() * cfg.train_dataloader.get("batch_size", 1)
    last, console = _RunHook(rate), ConsoleHook(batch)
    runner.register_hook(last)
    runner.register_hook(console)
    runner.register_hook(UntrainedHook())
    check_views = getattr(_bare(runner.model), "check_views", None)
    if check_views is not None and (sizes := view_sizes(cfg)):
        check_views(sizes)
    with report_unknown_types():
        if len(runner.train_loop.dataloader) == 0:
            most = max(1, len(runner.train_loop.dataloader.dataset) // get_world_size())
            raise UserError(
                "train_dataloader.batch_size",
                cfg.train_dataloader.batch_size,
                expected="no more than there are images (an incomplete batch is dropped)",
                fix=f"train_dataloader.batch_size={most} or less, or drop_last=False",
            )
        say_plan(runner, rate, cfg.resume)
        _train(runner, cfg)
    if last.metrics is None and cfg.get("val_cfg") is not None:  # killed after the last checkpoint
        last.metrics = runner.val()
    record = dict(
        config=cfg.filename,
        schedule=schedule,
        seconds=round(time.monotonic() - start, 1),
        checkpoint=_last_checkpoint(work_dir),
        metrics=None if last.metrics is None else plain_metrics(last.metrics),
        loss=console.loss,
    )
    if is_main_process():
        write_json(record_file, record)
    return record


def test(
    cfg: Config, checkpoint: str, amp: bool = False, tta: bool = False, trust: bool = False
) -> dict:
    """Measure a checkpoint on the test split and write test.json in `cfg.work_dir`.

    Args:
        cfg: a full config.
        checkpoint: a file or a work dir.
        amp: run the model under bf16 autocast.
        tta: average predictions over the scales and flips of the config's `tta_pipeline`.
        trust: unpickle code in the checkpoint.

    Raises:
        UserError: the config has none, or the checkpoint lacks tensors of the model, or their
            shapes differ.
    """
    start = time.monotonic()
    join_group(cfg)
    if tta:
        use_tta(cfg)
    path = resolve_checkpoint(checkpoint, "checkpoint")
    weights = weights_in(read_checkpoint(path, trust), str(path), "checkpoint")
    cfg.load_from, cfg.resume = None, False  # the Runner would load that over the checkpoint
    runner = build_runner(cfg)
    fix = "test a checkpoint that this config trained"
    load_whole(_bare(runner.model), weights, str(path), "checkpoint", fix)
    say_model(runner, _bare(runner.model))
    say_test(runner, path)
    runner.register_hook(ConsoleHook())
    device = next(runner.model.parameters()).device.type
    with report_unknown_types(), torch.autocast(device, dtype=torch.bfloat16, enabled=amp):
        metrics = runner.test()
    record = dict(
        config=cfg.filename,
        checkpoint=str(path),
        tta=tta,
        seconds=round(time.monotonic() - start, 1),
        metrics=plain_metrics(metrics),
    )
    if is_main_process():
        write_json(Path(cfg.work_dir) / "test.json", record)
    say_result(cfg, record)
    return record


def _start(runner: Runner, trust: bool) -> dict:
    """The weights that `load_from` names, as a checkpoint."""
    path = runner.cfg.load_from
    if hasattr(_bare(runner.model), "bank"):
        expected = "nothing in a pretraining, which makes its own teachers"
        fix = "--init starts the student with a backbone, --resume continues a run"
        raise UserError("load_from", path, expected=expected, fix=fix)
    state = read_checkpoint(path, trust, mmap=True, key="load_from")
    return {"state_dict": weights_in(state, path, "load_from")}


def _train(runner: Runner, cfg: Config) -> None:
    """Run the training; one image a process is too few for a batch norm over a map of one pixel."""
    try:
        with report_unreduced(runner.model):
            runner.train()
    except ValueError as error:
        if "more than 1 value per channel" not in str(error):
            raise
        raise UserError(
            "train_dataloader.batch_size",
            cfg.train_dataloader.batch_size,
            expected="2 or more images per process for the model's batch norms",
            fix="a larger batch, or norms of another kind (norm_cfg=dict(type='GN', "
            "num_groups=32))",
        ) from error


def build_runner(cfg: Config) -> _Runner:
    """A Runner, with an unknown type reported as a UserError."""
    # mmengine names a run by the second; two runs of one process in one second would share a scope
    cfg.experiment_name = f"{Path(cfg.filename or 'run').stem}_{os.getpid()}_{time.monotonic_ns()}"
    compiled = check_compile(cfg.pop("compile", None))  # mmengine would compile the whole step
    with report_unknown_types():
        runner = _Runner.from_cfg(cfg)
    compile_networks(_bare(runner.model), compiled)
    return runner


def _bare(model: nn.Module) -> nn.Module:
    """The model itself, within the wrappers of distributed runs and test-time augmentation."""
    while is_model_wrapper(model) or isinstance(model, BaseTTAModel):
        model = model.module
    return model


def _last_checkpoint(work_dir: Path) -> str | None:
    pointer = work_dir / "last_checkpoint"
    return Path(pointer.read_text().strip()).name if pointer.exists() else None


def join_group(cfg: Config) -> None:
    """Open the group of processes that `cfg.launcher` asks for, unless it is open.

    mmengine's Runner would do so too late: how many processes there are decides the learning rate.
    """
    launcher = cfg.get("launcher", "none")
    if launcher != "none" and not is_distributed():
        init_dist(launcher, **(cfg.get("env_cfg") or {}).get("dist_cfg", {"backend": "nccl"}))


def leave_group() -> None:
    """Leave the group of processes: NCCL warns of one that is left behind."""
    from torch import distributed

    if distributed.is_available() and distributed.is_initialized():
        distributed.destroy_process_group()
