"""Says before a training what it takes: parameters, FLOPs, memory, steps, disk and time.

The model is built on the meta device, without memory, and no file is read but the config and, where
they are there, the data.
"""

from __future__ import annotations

import copy
import textwrap
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.logging import MMLogger
from mmengine.optim import build_optim_wrapper
from mmengine.registry import DATASETS
from torch import Tensor, nn

from mimseg.data.checks.config import config_datasets
from mimseg.engine.build_errors import report_build_errors
from mimseg.engine.console import hush
from mimseg.engine.dry_step import StepCost, dry_step
from mimseg.engine.rate import GPUS, Gpu, Rate, assumed_rate, find_gpu, measure_rate
from mimseg.engine.sharding import Sharding, require_shardable, teacher_blocks
from mimseg.engine.stages import build_on_meta, stage_configs
from mimseg.engine.summary import precision
from mimseg.engine.synthetic import image_sizes
from mimseg.engine.unused import freeze_unused
from mimseg.errors import UserError, require_at_least
from mimseg.recipes.pretrain import IMAGENET

GIB = 1 << 30
_SHOWN = 1 << 16  # bytes of a part that is worth a line: not the mean color of pixels
_HALF = {"bfloat16": torch.bfloat16, "float16": torch.float16, "float32": None}
# what is published of data that are not here, by where the shipped configs look for them: training
# images, COCO's with objects alone
_PUBLISHED = {
    "data/imagenet": ("ImageNet-1k", IMAGENET),
    "data/ade/": ("ADE20K", 20_210),
    "data/coco": ("COCO 2017", 117_266),
}


@dataclass(frozen=True)
class Estimate:
    """What one training, or one stage of it, takes.

    Args:
        stage: its name; "" without stages.
        processes, batch, accumulation: images per step are their product; `batch` is one process's.
        base_batch: the images per step that the config's learning rate is for; None if not said.
        views: (H, W) of the images by view.
        precision: of the forward pass.
        parameters: student, head (all else that is no teacher), teacher, trained, frozen.
        cost: of one process's step.
        memory: bytes of one process by part; "activations" is None where it is not known.
        sharding: how they are sharded; None where they are not.
        images: training images; None where they are not known.
        images_from: how that is known.
        steps: of the data loader; None where the images are not known.
        epochs: None where steps are counted.
        checkpoint: bytes of one checkpoint.
        checkpoints: that are kept at the end.
        rate: None where none was asked for.
        gpu: the card that was named.
    """

    stage: str
    processes: int
    batch: int
    accumulation: int
    base_batch: int | None
    views: dict[str, tuple[int, int]]
    precision: str
    parameters: dict[str, int]
    cost: StepCost
    memory: dict[str, int | None]
    sharding: Sharding | None
    images: int | None
    images_from: str
    steps: int | None
    epochs: int | None
    checkpoint: int
    checkpoints: int
    rate: Rate | None = None
    gpu: Gpu | None = None

    @property
    def total_memory(self) -> int | None:
        """Bytes of one process; None where a part is not known."""
        parts = self.memory.values()
        return None if None in parts else sum(parts)

    @property
    def seconds(self) -> float | None:
        """Of the training; None where rate or length is not known."""
        if self.rate is None or self.steps is None:
            return None
        return self.steps * self.batch / self.rate.images

    def as_dict(self) -> dict[str, Any]:
        """For JSON: the fields, and what follows from them."""
        return {**asdict(self), "total_memory": self.total_memory, "seconds": self.seconds}


def estimate(
    cfg: Config,
    processes: int = 1,
    fsdp: bool = False,
    gpu: str | None = None,
    measure: bool = False,
    seconds: float = 30,
) -> list[Estimate]:
    """Estimate a training, stage by stage.

    Args:
        cfg: a full config; it stays as it is.
        processes: how many train together.
        fsdp: shard model and optimizer over them, as the config's own `fsdp` does.
        gpu: a name of `GPUS`, for an assumed rate.
        measure: train for about `seconds` here, for a measured one.

    Raises:
        UserError: a config that cannot be built or sharded, an unknown card, or both rates.
    """
    hush(MMLogger.get_current_instance())
    require_at_least("--processes", processes, 1)
    asked = cfg.get("fsdp") or fsdp
    sharding = Sharding.read(asked) if asked else None
    if sharding and processes == 1:
        raise UserError("--fsdp", True, expected="--processes of 2 or more")
    if gpu and measure:
        raise UserError("--gpu", gpu, expected="one of --gpu and --measure", fix="leave one out")
    card = None if gpu is None else find_gpu(gpu)
    cfg = copy.deepcopy(cfg)
    cfg.work_dir = cfg.get("work_dir") or "work_dirs"
    estimates: list[Estimate] = []
    for name, one in (stage_configs(cfg) if cfg.get("stages") else {"": cfg}).items():
        for key in ("train_dataloader", "train_cfg", "optim_wrapper"):
            if not one.get(key):
                raise UserError(key, None, expected="a config that trains")
        estimates.append(
            _estimate(name, one, processes, sharding, card, measure, seconds, estimates)
        )
    return estimates


def _estimate(
    name: str,
    cfg: Config,
    processes: int,
    sharding: Sharding | None,
    card: Gpu | None,
    measure: bool,
    seconds: float,
    earlier: list[Estimate],
) -> Estimate:
    model = build_on_meta(cfg)
    freeze_unused(model)
    if sharding:
        require_shardable(model)
    batch = cfg.train_dataloader.get("batch_size", 1)
    parameters = _parameters(model)
    optimizer = optimizer_bytes(model, cfg)
    hook = (cfg.get("default_hooks") or {}).get("checkpoint") or {}
    checkpoint = _bytes(model.state_dict().values())
    checkpoint += optimizer * bool(hook.get("save_optimizer", True))
    memory: dict[str, int | None] = dict(_memory(model, optimizer, processes, sharding))
    cost = dry_step(model, cfg, batch, _HALF[precision(cfg)])
    memory["activations"] = cost.peak
    images, source = _count_images(cfg)
    epochs = cfg.train_cfg.get("max_epochs")
    steps = _steps(cfg, images, batch, processes)
    rate = None
    if card is not None:
        rate = assumed_rate(card, cost.flops / batch)
    elif measure:
        same = (e.rate for e in earlier if (e.cost, e.parameters) == (cost, parameters))
        each = None if cost.peak is None else cost.peak // batch
        rate = next(same, None) or measure_rate(cfg, _is_here(cfg), each, seconds)
    return Estimate(
        stage=name,
        processes=processes,
        batch=batch,
        accumulation=cfg.optim_wrapper.get("accumulative_counts", 1),
        base_batch=(cfg.get("auto_scale_lr") or {}).get("base_batch_size"),
        views=image_sizes(cfg),
        precision=precision(cfg),
        parameters=parameters,
        cost=cost,
        memory=memory,
        sharding=sharding,
        images=images,
        images_from=source,
        steps=steps,
        epochs=epochs,
        checkpoint=checkpoint,
        checkpoints=_kept(hook, cfg, steps),
        rate=rate,
        gpu=card,
    )


def _parameters(model: nn.Module) -> dict[str, int]:
    student = sum(p.numel() for p in model.backbone.parameters())
    total = sum(p.numel() for p in model.parameters())
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    teacher = sum(p.numel() for net in _teachers(model) for p in net.parameters())
    return dict(
        student=student,
        head=total - student,
        teacher=teacher,
        trained=trained,
        frozen=total - trained + teacher,
    )


def _teachers(model: nn.Module) -> list[nn.Module]:
    return list(getattr(getattr(model, "bank", None), "teachers", {}).values())


def _bytes(tensors: Iterable[Tensor]) -> int:
    return sum(t.nbytes for t in tensors)


def optimizer_bytes(model: nn.Module, cfg: Config) -> int:
    """Bytes of the optimizer's state after a step, which is taken on meta tensors.

    Args:
        model: on the meta device, frozen as for training; its gradients are gone afterwards.
    """
    options = copy.deepcopy(cfg.optim_wrapper)
    if "optimizer" not in options:
        raise UserError("optim_wrapper.optimizer", None, expected="one optimizer")
    options.type = "OptimWrapper"  # precision is of no matter here
    for key in ("dtype", "loss_scale", "skip_nonfinite"):
        options.pop(key, None)
    with report_build_errors(cfg):
        optimizer = build_optim_wrapper(model, options).optimizer
    for parameter in model.parameters():
        parameter.grad = torch.empty_like(parameter) if parameter.requires_grad else None
    optimizer.step()
    optimizer.zero_grad()
    states = [value for state in optimizer.state.values() for value in state.values()]
    return _bytes(value for value in states if isinstance(value, Tensor))


def _memory(
    model: nn.Module, optimizer: int, processes: int, sharding: Sharding | None
) -> dict[str, int]:
    """Bytes by part, of one process."""
    shards = processes if sharding else 1
    parameters, buffers = _bytes(model.parameters()), _bytes(model.buffers())
    trained = _bytes(p for p in model.parameters() if p.requires_grad)
    parts = dict(
        weights=-(-parameters // shards) + buffers,
        gradients=-(-trained // shards),
        optimizer=-(-optimizer // shards),
    )
    teachers = _bytes(t for net in _teachers(model) for t in (*net.parameters(), *net.buffers()))
    if sharding:
        blocks = [_bytes(b.parameters()) for b in getattr(model.backbone, "layers", ())]
        width = 2 if sharding.param_dtype == "bfloat16" else 4  # bytes of a weight
        parts["gathered"] = parameters - sum(blocks) + 2 * max(blocks, default=0) * width // 4
    if sharding and sharding.teachers == "sharded":
        blocks = [_bytes(block.parameters()) for block in teacher_blocks(model)]
        teachers -= sum(blocks) - -(-sum(blocks) // shards)
        parts["gathered"] += max(blocks, default=0)
    return parts | dict(teacher=teachers)


# ---------------------------------------------------------------------- length and disk


def _folders(cfg: Config) -> list[str]:
    """Where the training images are, by data set."""
    return [d.prefix("img_path", "img")[1] for d in config_datasets(cfg, ["train"])]


def _is_here(cfg: Config) -> bool:
    folders = _folders(cfg)
    return bool(folders) and all(folder and Path(folder).exists() for folder in folders)


def _count_images(cfg: Config) -> tuple[int | None, str]:
    """The training images, and how they were counted."""
    if _is_here(cfg):
        with DATASETS.switch_scope_and_registry(cfg.default_scope) as registry:
            with report_build_errors(cfg):
                data = registry.build(copy.deepcopy(cfg.train_dataloader.dataset))
        return (len(data), "counted here") if hasattr(data, "__len__") else (None, "a stream")
    folders = _folders(cfg)
    where = ", ".join(filter(None, folders)) or "the data's folder"
    for place, (title, count) in _PUBLISHED.items():
        if len(folders) == 1 and where.startswith(place):
            return count, f"{title} as published; {where} is not here"
    return None, f"{where} is not here"


def _steps(cfg: Config, images: int | None, batch: int, processes: int) -> int | None:
    """Steps of the data loader, as mmengine's samplers and loops count them."""
    if cfg.train_cfg.get("max_iters"):
        return cfg.train_cfg.max_iters
    if images is None:
        return None
    each = -(-images // processes)
    down = cfg.train_dataloader.get("drop_last", False)
    return cfg.train_cfg.max_epochs * (each // batch if down else -(-each // batch))


def _kept(hook: dict, cfg: Config, steps: int | None) -> int:
    """How many checkpoints are there at the end."""
    most = hook.get("max_keep_ckpts", 2 if hook.get("type") == "mimseg.CheckpointHook" else -1)
    every = max(1, hook.get("interval", 1))
    length = cfg.train_cfg.get("max_epochs") if hook.get("by_epoch", True) else steps
    saved = -(-length // every) if length else 1
    return saved if most < 0 else min(most, saved)


# ---------------------------------------------------------------------- the report


def report(estimates: list[Estimate], config: str) -> str:
    """The estimates as text for a terminal."""
    lines = [_row("config", config)]
    texts: dict[str, str] = {}
    for one in estimates:
        text = "\n".join(_lines(one))
        same = texts.setdefault(text, one.stage)
        if one.stage:
            lines += ["", f"stage {one.stage}" + (f": as {same}" * (same != one.stage))]
        if same == one.stage:
            lines.append(text)
    times = [one.seconds for one in estimates]
    if len(estimates) > 1:
        disk = _size(sum(one.checkpoint * one.checkpoints for one in estimates))
        length = "" if None in times else f", {_time(sum(times))}"
        lines += ["", _row("all stages", f"{disk} of disk{length}")]
    notes = [_row("", note) for one in estimates for note in _rate_notes(one)]
    return "\n".join([*lines, *dict.fromkeys(notes)])


def _lines(one: Estimate) -> Iterable[str]:
    counts = {name: _count(n) for name, n in one.parameters.items()}
    student = f"student {counts['student']}, heads and necks {counts['head']}"
    student += f", teachers {counts['teacher']}" if one.parameters["teacher"] else ""
    yield _row("parameters", f"{student}, by count")
    yield _row("", f"trained {counts['trained']}, frozen {counts['frozen']}")
    sizes = {f"{height}x{width}" for height, width in one.views.values()}
    together = f", {one.processes} processes" if one.processes > 1 else ""
    added = f", {one.accumulation} accumulated" if one.accumulation > 1 else ""
    pixels = " and ".join(sorted(sizes))
    yield _row("step", f"{one.batch} images of {pixels} px{together}{added}, {one.precision}")
    images = one.processes * one.batch * one.accumulation
    if one.base_batch and one.base_batch != images:
        text = f"the config is written for {one.base_batch} images per step, this is {images}"
        yield _row("", f"{text} (--processes {max(1, one.base_batch * one.processes // images)})")
    cost = one.cost
    share = cost.teacher_flops / cost.flops
    text = f", {share:.0%} of it the teachers'" if share >= 0.005 else ""
    yield _row("FLOPs", f"{_flops(cost.flops / one.batch)} per image, forward and backward{text}")
    yield _row("", f"{_flops(cost.flops)} per step{' of a process' * (one.processes > 1)}")
    yield _row("", f"counted by {cost.method}")
    yield from _memory_lines(one)
    length = f"not known: {one.images_from}"
    if one.steps is not None:
        length = f"{one.steps:,} of {one.processes * one.batch:,} images"
        length += f": {one.epochs} epochs" if one.epochs else ""
        seen = one.steps * one.processes * one.batch
        length += f", {seen / 1e6:,.4g} M" if seen >= 1e6 else f", {seen:,}"
        length += " images in all"
    yield _row("steps", length)
    if one.images is not None:
        yield _row("images", f"{one.images:,} ({one.images_from})")
    kept = one.checkpoint * one.checkpoints
    text = f"{_size(kept)}: {one.checkpoints} checkpoints of {_size(one.checkpoint)}, by count"
    yield _row("disk", f"{text}; up to two more while one is saved")
    yield _time_line(one)


def _memory_lines(one: Estimate) -> Iterable[str]:
    kinds = {"gathered": "estimated: blocks that are whole for a moment, and all outside of them"}
    kinds["activations"] = "estimated: the most at one time in a step on meta tensors"
    if one.sharding:
        for part in ("weights", "gradients", "optimizer"):
            kinds[part] = f"by count, a {one.processes}th of the whole"
    if one.cost.peak is None:
        kinds["activations"] = "not known: the step does not run on meta tensors"
    total = one.total_memory
    known = "not known in all" if total is None else f"{_size(total)}, estimated"
    yield _row("memory", f"{known}; of {'each' if one.processes > 1 else 'the'} process:")
    for part, size in one.memory.items():
        if size is None or size >= _SHOWN:
            value = "?" if size is None else _size(size)
            yield _row("", f"{part:<12}{value:>10}  {kinds.get(part, 'by count')}")
    if one.sharding:
        whole = _size(4 * (one.parameters["student"] + one.parameters["head"]))
        text = f"before it is sharded, each process holds the whole model, {whole}"
        if one.sharding.checkpoint == "whole":
            size = _size(one.checkpoint)
            text += f"; at a save the first one gathers {size} in host memory"
        yield _row("", text)
    if one.gpu is not None and total is not None:
        share = total / one.gpu.memory
        fit = "fits into" if share < 0.9 else "just about fills" if share < 1 else "is too much for"
        room = f"{one.gpu.memory / GIB:.0f} GiB of one {one.gpu.title}"
        yield _row("", f"in all, it {fit} the {room}")


def _time_line(one: Estimate) -> str:
    if one.rate is None:
        return _row("time", "not known without a rate")
    length = "not known without the steps" if one.seconds is None else _time(one.seconds)
    speed = f"{one.rate.images:,.0f}" if one.rate.images >= 100 else f"{one.rate.images:.3g}"
    return _row("time", f"{length}, at {speed} images/s per process, without validation and saving")


def _rate_notes(one: Estimate) -> Iterable[str]:
    if one.rate is None:
        yield f"--measure takes a rate here, --gpu assumes one ({', '.join(GPUS)})"
        return
    yield f"{one.rate.source}: {one.rate.text}"
    if one.rate.source == "assumed" and one.precision == "float32":
        yield "that is with --amp: the config itself trains in float32, which is slower"


def _row(label: str, text: str) -> str:
    indent = dict(initial_indent=f"{label:<15}", subsequent_indent=" " * 15)
    return textwrap.fill(text, 100, break_on_hyphens=False, **indent)


def _count(number: int) -> str:
    return f"{number / 1e9:.2f} B" if number >= 1e9 else f"{number / 1e6:.1f} M"


def _flops(number: float) -> str:
    for power, unit in ((15, "P"), (12, "T"), (9, "G")):
        if number >= 10**power:
            return f"{number / 10**power:.4g} {unit}FLOP"
    return f"{number / 1e6:.4g} MFLOP"


def _size(count: float) -> str:
    return f"{count / GIB:.2f} GiB" if count >= GIB // 10 else f"{count / (1 << 20):.1f} MiB"


def _time(seconds: float) -> str:
    for unit, length in (("days", 86400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.1f} {unit}"
    return f"{seconds:.0f} seconds"
