"""One Runner run: train or test."""

from __future__ import annotations

import re
import time
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.dist import (
    broadcast_object_list,
    get_world_size,
    init_dist,
    is_distributed,
    is_main_process,
)
from mmengine.hooks import Hook

from mimseg.checkpoints.checksum import damage
from mimseg.checkpoints.files import (
    checkpoint_folder,
    find_resumable,
    numbered,
    read_checkpoint,
    resolve_checkpoint,
)
from mimseg.checkpoints.loader import load_whole, weights_in
from mimseg.engine.amp_optim_wrapper import fall_back
from mimseg.engine.build_errors import report_build_errors
from mimseg.engine.checkpoint_hook import DONE, STOPPED, CheckpointHook
from mimseg.engine.closing import close
from mimseg.engine.console import ConsoleHook, plain_metrics, say, unmeasured
from mimseg.engine.finite import FiniteHook
from mimseg.engine.layer_decay import check_floors
from mimseg.engine.prepare import use_tta, view_sizes
from mimseg.engine.ranks import MARGIN, STUCK, EqualWeightsHook, WatchHook
from mimseg.engine.runner import Runner, build_runner
from mimseg.engine.scale_lr import LearningRate, scale_lr
from mimseg.engine.summary import say_model, say_plan, say_result, say_test
from mimseg.engine.unused import UntrainedHook, report_unreduced
from mimseg.engine.wrappers import bare
from mimseg.errors import EndOfRun, UserError, require_positive
from mimseg.files import read_json, write_json

_BROKEN = re.compile("gloo|nccl|connection|socket", re.IGNORECASE)  # errors of a collective


class _RunHook(Hook):
    """Sees to the schedule and a resumed run's teachers, and remembers the last metrics."""

    metrics: dict | None = None

    def __init__(self, rate: LearningRate) -> None:
        self.rate = rate

    def before_run(self, runner: Runner) -> None:
        check_floors(runner.param_schedulers or (), self.rate.factor)

    def before_train(self, runner: Runner) -> None:
        bank = getattr(bare(runner.model), "bank", None)
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
    record, checkpoint = _earlier(cfg, trust) if resume else (None, None)
    if record:
        say(f"{work_dir} is finished: nothing to do")
        return record
    start, schedule = time.monotonic(), cfg.train_cfg.to_dict()
    cfg.resume = False
    if checkpoint:
        cfg.resume, cfg.load_from = True, str(checkpoint)
        _take_seed(cfg, checkpoint, trust)
    elif resume:
        say(f"{work_dir} has no checkpoint yet: the training starts from the beginning")
    if not checkpoint and cfg.get("load_from"):
        cfg.load_from = resolve_checkpoint(cfg.load_from, "load_from")
    rate = scale_lr(cfg, get_world_size())
    if reason := fall_back(cfg):
        say(reason)
    runner = build_runner(cfg)
    runner.trust = trust
    say_model(runner, bare(runner.model))
    if runner.unused:
        say(f"{'not trained':<15}{runner.unused}", runner.logger)
    if (bank := getattr(bare(runner.model), "bank", None)) is not None:
        bank.require_sources()  # before the data set is read
    if cfg.get("load_from") and not cfg.resume:
        runner.start = _start(runner, trust)
    batch = get_world_size() * cfg.train_dataloader.get("batch_size", 1)
    last, console = _RunHook(rate), ConsoleHook(batch)
    runner.register_hook(last)
    runner.register_hook(console)
    watch = WatchHook(stuck=_group_settings(cfg)["timeout"])
    for hook in (UntrainedHook(), EqualWeightsHook(), watch):
        runner.register_hook(hook)
    runner.register_hook(FiniteHook())
    check_views = getattr(bare(runner.model), "check_views", None)
    if check_views is not None and (sizes := view_sizes(cfg)):
        check_views(sizes)
    with report_build_errors(cfg):
        if len(runner.train_loop.dataloader) == 0:
            most = max(1, len(runner.train_loop.dataloader.dataset) // get_world_size())
            raise UserError(
                "train_dataloader.batch_size",
                cfg.train_dataloader.batch_size,
                expected="no more than there are images (an incomplete batch is dropped)",
                fix=f"train_dataloader.batch_size={most} or less, or drop_last=False",
            )
        say_plan(runner, rate, cfg.resume)
        _train(runner, cfg, watch)
    metrics = None if last.metrics is None else plain_metrics(last.metrics)
    record = dict(
        config=cfg.filename,
        schedule=schedule,
        seconds=round(time.monotonic() - start, 1),
        checkpoint=_last_checkpoint(work_dir),
        metrics=metrics,
        loss=console.loss,
    )
    if reasons := unmeasured(metrics or {}):
        record["unmeasured"] = reasons
    if is_main_process():
        write_json(work_dir / DONE, record)
    close(runner)
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
    load_whole(bare(runner.model), weights, str(path), "checkpoint", fix)
    say_model(runner, bare(runner.model))
    say_test(runner, path)
    runner.register_hook(ConsoleHook())
    device = next(runner.model.parameters()).device.type
    with report_build_errors(cfg), torch.autocast(device, dtype=torch.bfloat16, enabled=amp):
        metrics = runner.test()
    metrics = plain_metrics(metrics)
    record = dict(
        config=cfg.filename,
        checkpoint=str(path),
        tta=tta,
        seconds=round(time.monotonic() - start, 1),
        metrics=metrics,
    )
    if reasons := unmeasured(metrics):
        record["unmeasured"] = reasons
    if is_main_process():
        write_json(Path(cfg.work_dir) / "test.json", record)
    say_result(cfg, record)
    return record


def _start(runner: Runner, trust: bool) -> dict:
    """The weights that `load_from` names, as a checkpoint."""
    path = runner.cfg.load_from
    if hasattr(bare(runner.model), "bank"):
        expected = "nothing in a pretraining, which makes its own teachers"
        fix = "--init starts the student with a backbone, --resume continues a run"
        raise UserError("load_from", path, expected=expected, fix=fix)
    state = read_checkpoint(path, trust, mmap=True, key="load_from")
    return {"state_dict": weights_in(state, path, "load_from")}


def _train(runner: Runner, cfg: Config, watch: WatchHook) -> None:
    """Run the training; one image a process is too few for a batch norm over a map of one pixel."""
    if is_main_process():
        (Path(cfg.work_dir) / STOPPED).unlink(missing_ok=True)
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
    except RuntimeError as error:
        if get_world_size() > 1 and _BROKEN.search(str(error)) and (who := watch.gone()):
            raise EndOfRun(f"{who}: the run cannot go on without it", 1) from error
        raise
    finally:
        watch.close()
        for hook in runner.hooks:
            if isinstance(hook, CheckpointHook):
                hook.close()


def _earlier(cfg: Config, trust: bool) -> tuple[dict | None, str | None]:
    """What there is of a run, as the first rank sees the folder; see `_look`."""
    state: list[tuple | UserError | None] = [None]
    if is_main_process():
        try:
            state = [_look(cfg, trust)]
        except UserError as error:  # which ends all ranks
            state = [error]
    broadcast_object_list(state)
    if isinstance(state[0], UserError):
        raise state[0]
    return state[0]


def _look(cfg: Config, trust: bool) -> tuple[dict | None, str | None]:
    """The record of a run if it is finished, else its newest whole checkpoint; or neither.

    A run whose last checkpoint was damaged since is finished only if no earlier one is whole.

    Raises:
        UserError: there are checkpoints, but none is whole.
    """
    folder, record = checkpoint_folder(cfg), read_json(Path(cfg.work_dir) / DONE)
    finished = isinstance(record, dict) and record.get("schedule") == cfg.train_cfg.to_dict()
    if finished:
        last = folder / str(record.get("checkpoint"))
        if not last.is_file() or not damage(last):
            return record, None
    if checkpoint := find_resumable(cfg.work_dir, trust, folder):
        return None, checkpoint
    if not finished and (names := [path.name for path in numbered(folder)]):
        raise UserError(
            "--resume",
            str(folder),
            expected=f"a whole checkpoint; {', '.join(names)} cannot be used",
            fix="put a copy there, or remove them to train from the beginning",
        )
    return record if finished else None, None


def _take_seed(cfg: Config, checkpoint: str, trust: bool) -> None:
    """Take a resumed run's seed, where the config leaves it to chance."""
    randomness = cfg.setdefault("randomness", {})
    if randomness.get("seed") is None:
        meta = read_checkpoint(checkpoint, trust, mmap=True).get("meta") or {}
        randomness["seed"] = meta.get("seed")


def _last_checkpoint(work_dir: Path) -> str | None:
    pointer = work_dir / "last_checkpoint"
    return Path(pointer.read_text().strip()).name if pointer.exists() else None


def join_group(cfg: Config) -> None:
    """Open the group of processes that `cfg.launcher` asks for, unless it is open.

    mmengine's Runner would do so too late: how many processes there are decides the learning rate.
    """
    launcher = cfg.get("launcher", "none")
    if launcher != "none" and not is_distributed():
        settings = _group_settings(cfg)
        init_dist(launcher, **{**settings, "timeout": settings["timeout"] + MARGIN})


def _group_settings(cfg: Config) -> dict:
    """`env_cfg.dist_cfg`; its `timeout` is the seconds without progress after which a run ends."""
    settings = (cfg.get("env_cfg") or {}).get("dist_cfg") or {}
    settings = {"backend": "nccl", "timeout": STUCK, **settings}
    require_positive("env_cfg.dist_cfg.timeout", settings["timeout"], "seconds, as 1800")
    return settings


def leave_group() -> None:
    """Leave the group of processes: NCCL warns of one that is left behind."""
    from torch import distributed

    if distributed.is_available() and distributed.is_initialized():
        distributed.destroy_process_group()
