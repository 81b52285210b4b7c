"""Says before a training what it takes: parameters, FLOPs, memory, steps, disk and time.

The model is built on the meta device, without memory, and no file is read but the config and, where
they are there, the data.
"""

from __future__ import annotations

import copy
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

from mimseg.algorithms.teacher_bank import teachers_of
from mimseg.data.checks.config import config_datasets
from mimseg.engine.build_errors import report_build_errors
from mimseg.engine.console import hush
from mimseg.engine.dry_step import StepCost, dry_step
from mimseg.engine.rate import Gpu, Rate, assumed_rate, find_gpu, measure_rate
from mimseg.engine.sharding import Sharding, require_shardable, teacher_blocks
from mimseg.engine.stages import build_on_meta, stage_configs
from mimseg.engine.summary import precision
from mimseg.engine.synthetic import image_sizes
from mimseg.engine.unused import freeze_unused
from mimseg.errors import UserError, require_at_least
from mimseg.recipes.pretrain import IMAGENET

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
    teacher = sum(p.numel() for net in teachers_of(model).values() for p in net.parameters())
    return dict(
        student=student,
        head=total - student,
        teacher=teacher,
        trained=trained,
        frozen=total - trained + teacher,
    )


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
    networks = teachers_of(model).values()
    teachers = _bytes(t for net in networks for t in (*net.parameters(), *net.buffers()))
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
