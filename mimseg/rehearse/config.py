"""Makes a config small: the networks alone, or all of it, to rehearse a run."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

from mmengine.config import Config, ConfigDict
from mmengine.device import get_device

from mimseg.engine.amp_optim_wrapper import bf16_supported
from mimseg.engine.stages import stage_configs
from mimseg.errors import UserError
from mimseg.rehearse.images import few_images, in_this_process
from mimseg.rehearse.parts import shrink_parts
from mimseg.rehearse.schedule import STEPS, shorten
from mimseg.rehearse.size import Size
from mimseg.rehearse.slots import shrink_slots

SMALL_BATCH = 8  # images per step of a small training
BATCH = 2  # images per step of a rehearsal, or of a whole validation or test


def shrink(
    cfg: Config, width: int = 48, depth: int = 6, img_size: int = 64, patch_size: int = 8
) -> None:
    """Make a config's networks, images and batches small, in place; data and schedule stay.

    Any config with a `mimseg.ViT` as its backbone: pretraining, with `stages` too, classification,
    segmentation, detection. Networks keep their types and get random weights.

    Args:
        cfg: a whole config.
        width, depth, img_size, patch_size: see `Size`.

    Raises:
        UserError: the backbone is no `mimseg.ViT`, a teacher has no small form, or the size is
            impossible.
    """
    size = Size(width, depth, img_size, patch_size)
    change_stages(cfg, lambda one, handed: _shrink_one(one, size, handed))


def rehearse(cfg: Config) -> Config:
    """The config of a rehearsal: `shrink`'s networks, two steps, one validation, the same data.

    The first images of each split are read, in this process; hooks are as written but for their
    intervals. What the config starts from (`load_from`, a backbone's `init_cfg`) is left out: it
    does not fit a small network. Where the device has no mixed precision it trains in float32.

    Args:
        cfg: a whole config, which stays as it is.

    Raises:
        UserError: see `shrink`.
    """
    small = copy.deepcopy(cfg)
    size = Size()

    def change(one: Config, handed: str | None) -> None:
        _shrink_one(one, size, handed)
        for split in ("train", "val", "test"):
            if loader := one.get(f"{split}_dataloader"):
                in_this_process(loader, BATCH)
                batch = loader.get("batch_size") or BATCH
                few_images(one, split, STEPS * batch if split == "train" else BATCH)
        shorten(one)
        one.update(load_from=None, resume=False)
        if hook := (one.get("default_hooks") or {}).get("checkpoint"):
            hook.pop("out_dir", None)  # nothing is kept
        one.pop("compile", None)
        _use_float32_where_needed(one.optim_wrapper)
        if one.get("visualizer"):  # nothing is sent to a tracking server
            one.visualizer.vis_backends = [dict(type="LocalVisBackend")]

    change_stages(small, change)
    return small


def _use_float32_where_needed(wrapper: dict) -> None:
    """Take mixed precision out of an optimizer wrapper where this device has none."""
    device = get_device()
    runs = {"mimseg.AmpOptimWrapper": bf16_supported(device), "AmpOptimWrapper": device != "cpu"}
    if not runs.get(wrapper.get("type"), True):
        wrapper["type"] = "OptimWrapper"
        for key in ("dtype", "loss_scale"):
            wrapper.pop(key, None)


def _shrink_one(cfg: Config, size: Size, handed: str | None) -> None:
    """Shrink a config without regard to its stages; `handed` names an earlier stage's teacher."""
    kind = (cfg.model.get("backbone") or {}).get("type")
    if kind != "mimseg.ViT":
        raise UserError("model.backbone.type", kind, expected="'mimseg.ViT' to shrink")
    if cfg.model.get("teacher") or cfg.model.get("teachers"):
        shrink_slots(cfg, size, handed)
    else:
        shrink_parts(cfg, size)
    if cfg.get("train_dataloader"):
        in_this_process(cfg.train_dataloader, SMALL_BATCH)


def change_stages(cfg: Config, change: Callable[[Config, str | None], None]) -> None:
    """Apply a change to a config and to the config of each of its stages, in place.

    Args:
        cfg: a whole config.
        change: changes a config in place; its second argument is the name of the teacher that an
            earlier stage hands over, or None.
    """
    stages = [dict(stage) for stage in cfg.get("stages") or ()]
    wholes = _stage_configs(cfg) if stages else []
    change(cfg, None)
    for number, (stage, whole) in enumerate(zip(stages, wholes, strict=True)):
        key = stage.get("teacher_key", "model.teacher")
        change(whole, key.rpartition(".")[2] if stage.get("teacher") else None)
        kept = {name: value for name, value in stage.items() if name != "options"}
        if kept.get("teacher_options"):  # they win over what the stage's config says
            small = _at(whole, key)
            kept["teacher_options"] = {k: small[k] for k in kept["teacher_options"] if k in small}
        changed = {name.split(".")[0] for name in stage.get("options", {})}
        cfg.stages[number] = ConfigDict(kept, options=_options(whole, changed))


def _at(cfg: Config, key: str) -> Any:
    node: Any = cfg
    for part in key.split("."):
        node = node[part]
    return node


def _stage_configs(cfg: Config) -> list[Config]:
    whole = copy.deepcopy(cfg)
    whole.work_dir = whole.get("work_dir") or "work_dirs"
    return list(stage_configs(whole).values())


def _options(whole: Config, changed: set[str]) -> dict[str, Any]:
    """Settings that replace whole parts of the config by a stage's own."""
    options = {}
    for name in sorted((changed | {"model", "train_dataloader"}) & set(whole)):
        value = whole[name]
        options[name] = {**value, "_delete_": True} if isinstance(value, dict) else value
    return options
