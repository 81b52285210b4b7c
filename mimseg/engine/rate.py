"""Tells how fast a training would be: by a trial on this machine, or by a card's peak."""

from __future__ import annotations

import copy
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import cycle
from typing import Any

import torch
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.model import BaseModule
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS, DefaultScope
from torch import nn

from mimseg.algorithms.teacher_bank import teachers_of
from mimseg.engine import machine
from mimseg.engine.amp_optim_wrapper import fall_back
from mimseg.engine.build_errors import report_build_errors
from mimseg.engine.closing import end_workers
from mimseg.engine.optim_wrapper import with_our_wrapper
from mimseg.engine.runner import Runner
from mimseg.engine.summary import precision
from mimseg.engine.synthetic import noise_batch
from mimseg.engine.unused import freeze_unused
from mimseg.errors import require_choice

FEW = 2  # images of the first steps: batch norms want two


@dataclass(frozen=True)
class Gpu:
    """What a data sheet says of a card.

    Args:
        title: its name.
        peak: FLOP/s in bfloat16 with float32 sums, without sparsity.
        memory: bytes; what sheets call 80 GB is 80 GiB.
    """

    title: str
    peak: float
    memory: int


# NVIDIA's data sheets and the white papers of Ampere (GA102) and Ada
GPUS = {
    "a100": Gpu("NVIDIA A100 80 GB", 312e12, 80 << 30),
    "a6000": Gpu("NVIDIA RTX A6000", 155e12, 48 << 30),
    "b200": Gpu("NVIDIA B200", 2250e12, 180 << 30),
    "h100": Gpu("NVIDIA H100 SXM", 989e12, 80 << 30),
    "h200": Gpu("NVIDIA H200 SXM", 989e12, 141 << 30),
    "l4": Gpu("NVIDIA L4", 121e12, 24 << 30),
    "l40s": Gpu("NVIDIA L40S", 362e12, 48 << 30),
    "rtx3090": Gpu("NVIDIA RTX 3090", 71e12, 24 << 30),
    "rtx4090": Gpu("NVIDIA RTX 4090", 165e12, 24 << 30),
}
# What share of its peak a card gives to a ViT's training: our assumption. Public figures are 31 %
# for ViT-L on an H200 (36 % compiled; benchmarks of stable-pretraining), 12 % for MAE's ViT-B on
# A6000s (Alpha-VL/ConvMAE, issue 5) and 5 % for ViT-S on an H100 (23 % compiled; benchmarks of
# nvSubquadratic).
SHARE = 0.3


@dataclass(frozen=True)
class Rate:
    """How fast one process trains.

    Args:
        images: per second.
        source: "measured here" or "assumed".
        text: how that is known.
    """

    images: float
    source: str
    text: str


def find_gpu(name: str) -> Gpu:
    """A card of `GPUS`.

    Raises:
        UserError: there is none of that name.
    """
    require_choice("--gpu", name.lower(), GPUS)
    return GPUS[name.lower()]


def assumed_rate(gpu: Gpu, flops: float) -> Rate:
    """What a card would do at `SHARE` of its peak.

    Args:
        flops: per image.
    """
    text = f"{SHARE:.0%} of the {gpu.peak / 1e12:.0f} TFLOP/s that {gpu.title} has in bfloat16 by "
    text += "its data sheet; public figures of ViT trainings lie between 5% and 36%"
    return Rate(SHARE * gpu.peak / flops, "assumed", text)


def measure_rate(
    cfg: Config, with_data: bool, image_bytes: int | None = None, seconds: float = 30
) -> Rate:
    """Train for about half a minute on this machine, in one process; nothing is kept.

    The batch is the config's where it fits into a fifth of the time and half of the memory, else a
    smaller one. Weights are random: no file is read and nothing is downloaded. The model is not
    compiled.

    Args:
        cfg: without stages.
        with_data: read the training data; else images are noise, and loading is not in the rate.
        image_bytes: of memory that an image takes in a step, where known.
        seconds: how long, but at least one step.
    """
    cfg = copy.deepcopy(cfg)
    fall_back(cfg)
    device = get_device()
    model, wrapper = _build(cfg, device)
    whole, end = cfg.train_dataloader.get("batch_size", 1), time.monotonic() + seconds
    count, batches = min(whole, FEW), cycle([noise_batch(cfg, min(whole, FEW))])
    times = [_step(model, wrapper, batches, device)]
    if time.monotonic() + times[0] < end:  # the first one is the slowest
        times = [_step(model, wrapper, batches, device)]
    if time.monotonic() + 2 * times[0] < end:
        most = int(count * seconds / 5 / times[-1])
        if image_bytes:
            most = min(most, _free(device) // 2 // image_bytes)
        count = max(count, min(whole, most))
        batches = _loaded(cfg, count) if with_data else cycle([noise_batch(cfg, count)])
        _step(model, wrapper, batches, device)  # loader processes start
        times = [_step(model, wrapper, batches, device)]
    while time.monotonic() + times[-1] < end:
        times.append(_step(model, wrapper, batches, device))
    kind = torch.cuda.get_device_name() if device == "cuda" else device
    steps = f"{len(times)} step{'s' * (len(times) > 1)} of {count} images"
    images = "of the training data" if with_data else "of noise, without loading"
    images += ", not compiled" * bool(cfg.get("compile"))
    text = f"one process on {kind}, {precision(cfg)}, {steps} {images}"
    return Rate(count * len(times) / sum(times), "measured here", text)


def _build(cfg: Config, device: str) -> tuple[nn.Module, Any]:
    """Model and optimizer wrapper, with random weights everywhere."""
    DefaultScope.get_instance(f"trial {time.monotonic_ns()}", scope_name=cfg.default_scope)
    options = copy.deepcopy(cfg.model)
    options.get("backbone", {}).pop("init_cfg", None)
    with MODELS.switch_scope_and_registry(cfg.default_scope) as registry, report_build_errors(cfg):
        model = registry.build(options)
        BaseModule.init_weights(model)  # not the model's own, which goes on to load the teachers
        model.to(device).train()
        freeze_unused(model)
        return model, build_optim_wrapper(model, with_our_wrapper(cfg.optim_wrapper, device))


def _step(model: nn.Module, wrapper: Any, batches: Iterator[Any], device: str) -> float:
    """Seconds of one step, the wait for its images included."""
    start = time.perf_counter()
    model.train_step(next(batches), wrapper)
    for teacher in teachers_of(model).values():
        if hasattr(teacher, "update"):
            teacher.update(model.backbone, 1000)
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def _loaded(cfg: Config, count: int) -> Iterator[Any]:
    """Batches of the training data, without end."""
    options = {**cfg.train_dataloader, "batch_size": count}
    with report_build_errors(cfg):
        loader = Runner.build_dataloader(options, seed=0)
    try:
        while True:
            yield from loader
    finally:
        end_workers(loader)


def _free(device: str) -> int:
    """Bytes of memory that may be used."""
    if device == "cuda":
        return torch.cuda.mem_get_info()[0]
    return machine.memory() or 0
