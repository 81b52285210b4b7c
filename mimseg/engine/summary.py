"""Describes a run in a few lines: what it starts with, what it made, what comes next."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.dist import get_world_size
from mmengine.runner import EpochBasedTrainLoop, Runner
from torch import nn

from mimseg.checkpoints.files import checkpoint_folder
from mimseg.data.checks.config import DatasetConfig, config_datasets
from mimseg.engine.console import main_metrics, number_text, say
from mimseg.engine.scale_lr import LearningRate
from mimseg.progress import clock
from mimseg.recipes.configs import CONFIGS, config_names

_DOWNSTREAM = ("scenes", "camvid", "ade20k", "coco", "imagenet")


def say_model(runner: Runner, model: nn.Module) -> None:
    """Say which networks a run has and where it writes; no data is read for it."""
    cfg = runner.cfg
    if cfg.filename:
        _line(runner, "config", _config_name(cfg.filename))
    described = cfg.model.get("module", cfg.model)  # within test-time augmentation
    backbone = getattr(model, "backbone", None)
    if backbone is not None:
        _line(runner, "backbone", _backbone(described.backbone, backbone, model))
    for name, teacher in _teachers(described).items():
        _line(runner, name, _teacher(teacher))
    _line(runner, "work dir", cfg.work_dir)
    _line(runner, "log file", str(runner.logger.log_file))


def say_plan(runner: Runner, rate: LearningRate, resumed: bool) -> None:
    """Say what a training reads, how long it is and what it runs on.

    Args:
        runner: its training data set is built.
        rate: the learning rate.
        resumed: whether it continues from a checkpoint.
    """
    cfg, loop = runner.cfg, runner.train_loop
    data = next(iter(config_datasets(cfg, ["train"])), None)
    count = f"{_length(loop.dataloader.dataset)} images"
    _line(runner, "data", f"{count} in {_place(data)}" if data else count)
    counts = cfg.optim_wrapper.get("accumulative_counts", 1)
    steps = f"{loop.max_iters:,} steps of {rate.images // counts:,} images"
    steps += f", {counts} accumulated" if counts > 1 else ""
    if isinstance(loop, EpochBasedTrainLoop):
        steps = f"{_counted(loop.max_epochs, 'epoch')}, {steps}"
    _line(runner, "plan", steps)
    if resumed:
        _line(runner, "resumes", f"from {cfg.load_from}")
    else:
        _line(runner, "learning rate", str(rate))
    workers = _counted(cfg.train_dataloader.get("num_workers", 0), "loader worker")
    _line(runner, "device", f"{_device()}, {precision(cfg)}, {workers}")


def say_test(runner: Runner, checkpoint: Path) -> None:
    """Say which checkpoint is tested, and on what."""
    data = next(iter(config_datasets(runner.cfg, ["test"])), None)
    count = f"{_length(runner.test_dataloader.dataset)} test images"
    _line(runner, "checkpoint", str(checkpoint))
    _line(runner, "data", f"{count} in {_place(data)}" if data else count)
    _line(runner, "device", _device())


def say_result(cfg: Config, record: Mapping) -> None:
    """Say all that a test measured, and where it is written."""
    say(f"done in {clock(record['seconds'])}")
    for name, value in (record["metrics"] or {}).items():
        say(f"  {name:<18}{number_text(value)}")
    if not record["metrics"] or None in record["metrics"].values():
        say("  not everything was measured: no prediction, or no label of any class")
    say(f"  written to {Path(cfg.work_dir) / 'test.json'}; results by class are in the log file")


def say_end(cfg: Config, record: Mapping) -> None:
    """Say what a training made, how good it is, and the next command.

    Args:
        cfg: the config of the whole training, stages included.
        record: its done.json.
    """
    say(f"trained in {clock(record['seconds'])}")
    if record["checkpoint"]:
        path = Path(cfg.work_dir) / record["checkpoint"]
        say(f"  checkpoint  {checkpoint_folder(cfg, path.parent) / path.name}")
    for best in sorted(checkpoint_folder(cfg).glob("best_*.pth")):
        say(f"  best        {best}")
    if record["metrics"]:
        say(f"  result      {main_metrics(record['metrics'])}")
    if record.get("loss") is not None:
        say(f"  loss        {record['loss']:.4f} (mean of the last 50 steps)")
    if command := next_command(cfg):
        say(f"next:\n  {command}")


def next_command(cfg: Config) -> str | None:
    """What to type after a training; None where there is nothing that would work as it is."""
    work_dir = shlex.quote(str(checkpoint_folder(cfg)))
    if not _teachers(cfg.model):
        if cfg.get("test_cfg") is None:
            return None
        config = Path(cfg.work_dir) / Path(cfg.filename or "").name  # with all settings in it
        config = config if config.is_file() else cfg.filename
        return f"mimseg test {shlex.quote(str(config))} {work_dir}"
    return f"mimseg train {_downstream(cfg) or 'CONFIG'} --init {work_dir}"


def _downstream(cfg: Config) -> str | None:
    """The shipped fine-tuning for a pretraining's backbone, on its data or on ADE20K."""
    backbone, name = cfg.model.backbone, Path(cfg.filename or "").stem
    arch = backbone.get("arch")
    if backbone.get("type") != "mimseg.ViT" or not isinstance(arch, str):
        return None
    fitting = f"upernet_vit-{arch}-p{backbone.get('patch_size', 16)}_"
    base = f"vit-{arch}_upernet_"
    method = name.partition("_")[0]
    names = [n for n in config_names() if n.partition("/")[0] in _DOWNSTREAM]
    names = [n for n in names if fitting in n or (base in n and n.startswith("ade20k/"))]
    near = [n for n in names if n.partition("/")[2].startswith((f"{method}_", fitting, base))]
    near.sort(key=lambda n: (not name.endswith(n.partition("/")[0]), f"/{method}_" not in n, n))
    return near[0] if near else None


def _line(runner: Runner, label: str, text: str) -> None:
    say(f"{label:<15}{text}", runner.logger)


def _config_name(path: str) -> str:
    """A shipped config's short name, or the path."""
    file = Path(path).resolve()
    if file.is_relative_to(CONFIGS):
        return file.relative_to(CONFIGS).with_suffix("").as_posix()
    return str(path)


def _backbone(cfg: Mapping, backbone: nn.Module, model: nn.Module) -> str:
    arch, patch = cfg.get("arch"), getattr(backbone, "patch_size", None)
    text = str(cfg.get("type")).removeprefix("mimseg.")
    text += f" {arch}" if isinstance(arch, str) else ""
    text += f", patch {patch}" if patch else ""
    text += f", {_count(backbone)} parameters"
    return f"{text} ({_count(model)} with heads)"


def _count(module: nn.Module) -> str:
    return f"{sum(p.numel() for p in module.parameters()) / 1e6:.1f} M"


def _teachers(model: Mapping) -> dict[str, Mapping]:
    """Teacher configs by name; none but a pretraining has any."""
    teachers = {"teacher": model.get("teacher"), **(model.get("teachers") or {})}
    return {name: cfg for name, cfg in teachers.items() if isinstance(cfg, Mapping)}


def _teacher(cfg: Mapping) -> str:
    name = str(cfg.get("type")).removeprefix("mimseg.")
    keys = [key for key in ("model", "init", "weights") if isinstance(cfg.get(key), str)]
    return ", ".join([name, *(f"{key} {cfg[key]}" for key in keys)])


def _counted(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'s' * (count != 1)}"


def _length(dataset: object) -> str:
    return f"{len(dataset):,}" if hasattr(dataset, "__len__") else "a stream of"


def _place(data: DatasetConfig) -> str:
    folder = data.prefix("img_path", "img")[1]
    return folder or str(data.get("data_root") or "")


def _device() -> str:
    kind, processes = get_device(), get_world_size()
    name = torch.cuda.get_device_name() if kind == "cuda" else kind
    return f"{processes} x {name}" if processes > 1 else name


def precision(cfg: Config) -> str:
    """The type that a config trains in: "float32", "bfloat16" or "float16"."""
    kind = str(cfg.optim_wrapper.get("type", "OptimWrapper"))
    if kind == "mimseg.AmpOptimWrapper":
        return "bfloat16"
    return str(cfg.optim_wrapper.get("dtype", "float16")) if "Amp" in kind else "float32"
