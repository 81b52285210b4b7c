"""Trains one method at small size: python tools/dev method-run CONFIG --work-dir DIR --data DIR.

Slots are made small by `mimseg.rehearse`; images, schedule and optimizer are the same
for all methods (ours): AdamW at one learning rate, a short warm-up, then a cosine. Position
embeddings that are learned become sine-cosine ones: from random ones, places are not told apart in
so few steps.
"""

from __future__ import annotations

import argparse
import copy
import random
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from mmengine.config import Config
from mmengine.runner import Runner

from dev.methods.measure import measure
from dev.methods.table import build_small
from mimseg.checkpoints.files import read_checkpoint, resolve_checkpoint
from mimseg.checkpoints.loader import load_whole, weights_in
from mimseg.data.checks.folder import check_folder, walk_files
from mimseg.engine.prepare import prepare_work_dir
from mimseg.engine.run import train
from mimseg.engine.stages import stage_configs, train_stages
from mimseg.errors import UserError, exit_code
from mimseg.files import write_json, write_text
from mimseg.rehearse.config import shrink
from mimseg.rehearse.schedule import count_steps

RESULT = "result.json"
SIZE = dict(width=96, depth=6, img_size=64, patch_size=8)
BATCH, HELD_OUT, LR = 32, 256, 1.5e-3
LEAST = 3  # steps of a stage
SUFFIXES = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif")


def main(argv: list[str] | None = None) -> int:
    """Train one method and measure it. Returns 0, or 2 after a user's mistake."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("config", type=Path)
    parser.add_argument("--work-dir", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True, help="a folder of images")
    parser.add_argument("--steps", type=int, default=150, help="of all stages together")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--resume", action="store_true")
    args = parser.parse_args(argv)
    options = (args.config, args.work_dir, args.data, args.steps, args.seed, args.resume)
    return exit_code(lambda: run(*options))


def run(config: Path, work_dir: Path, data: Path, steps: int, seed: int, resume: bool) -> None:
    """Train and measure.

    `work_dir`/result.json has `steps`, `stages` (name and steps of each), `seed`, `images`, `size`,
    and what `measure` found as `held_out`.
    """
    cfg = Config.fromfile(config)
    prepare_work_dir(cfg, str(work_dir), str(config), resume)
    images = split(data, work_dir)
    prepare(cfg, data, work_dir, steps, seed)
    (train_stages if cfg.get("stages") else train)(copy.deepcopy(cfg), resume)
    last = list(stages_of(cfg).values())[-1]
    _seed(seed)
    model = build_small(last)
    model.init_weights()
    path = resolve_checkpoint(last.work_dir, "--work-dir")
    weights = weights_in(read_checkpoint(path), path, "--work-dir")
    load_whole(model, weights, path, "--work-dir", "train again in another --work-dir")
    stages = [
        dict(name=name, steps=stage.train_cfg.max_iters) for name, stage in stages_of(cfg).items()
    ]
    result = dict(steps=steps, stages=stages, seed=seed, images=images, size=SIZE)
    result["held_out"] = measure(model, held_out(last, work_dir, seed))
    write_json(work_dir / RESULT, result)


def split(data: Path, work_dir: Path) -> dict[str, int]:
    """Write lists of the images to train on and of those held out; returns their counts."""
    check_folder("--data", str(data), SUFFIXES)
    names = sorted(walk_files(str(data), SUFFIXES))
    every = max(10, len(names) // HELD_OUT)
    lists = {"held_out": names[::every][:HELD_OUT]}
    lists["train"] = sorted(set(names) - set(lists["held_out"]))
    for name, count in (("train", len(lists["train"])), ("held_out", len(lists["held_out"]))):
        least = BATCH if name == "train" else 1
        if count < least:
            raise UserError("--data", str(data), expected=f"at least {BATCH * 10 // 9 + 1} images")
        write_text(work_dir / f"{name}.txt", "\n".join(lists[name]) + "\n")
    return {name: len(found) for name, found in lists.items()}


def prepare(cfg: Config, data: Path, work_dir: Path, steps: int, seed: int) -> None:
    """Make a config small and short, in place.

    Raises:
        UserError: too few steps for the schedule.
    """
    shrink(cfg, **SIZE)
    cfg.work_dir = str(work_dir)
    stages = cfg.get("stages") or []
    if steps < LEAST * max(1, len(stages)):
        raise UserError(
            "--steps", steps, expected=f"at least {LEAST} for each of {len(stages) or 1} stages"
        )
    lengths = stage_steps(steps, max(1, len(stages)))
    _shorten(cfg, lengths[0], data, work_dir, seed)
    for stage, length in zip(stages, lengths[: len(stages)], strict=True):
        part = Config(dict(model={}, train_dataloader={}))
        options = stage.setdefault("options", {})
        for key in list(options):
            if key.split(".")[0] in ("train_cfg", "param_scheduler", "optim_wrapper"):
                options.pop(key)
        part.model = options["model"]
        part.train_dataloader = options["train_dataloader"]
        _shorten(part, length, data, work_dir, seed)
        options.update(model=part.model, train_dataloader=part.train_dataloader)
        options.update({"train_cfg.max_iters": length, "param_scheduler": part.param_scheduler})


def stage_steps(steps: int, stages: int) -> list[int]:
    """The steps of each stage; the last takes what does not divide."""
    return [steps // stages] * (stages - 1) + [steps - steps // stages * (stages - 1)]


def stages_of(cfg: Config) -> dict[str, Config]:
    """The configs of the stages by name; '' for a run without stages."""
    return stage_configs(copy.deepcopy(cfg)) if cfg.get("stages") else {"": cfg}


def _shorten(cfg: Config, steps: int, data: Path, work_dir: Path, seed: int) -> None:
    loader = cfg.train_dataloader
    loader.batch_size = BATCH
    loader.sampler = dict(type="InfiniteSampler", shuffle=True)
    loader.dataset.update(
        data_root=str(data.resolve()),
        data_prefix="",
        ann_file=str((work_dir / "train.txt").resolve()),
    )
    cfg.optim_wrapper = dict(
        type="OptimWrapper",
        optimizer=dict(type="AdamW", lr=LR, betas=(0.9, 0.95), weight_decay=0.05),
        clip_grad=dict(max_norm=3.0),
        constructor="mimseg.LayerDecayConstructor",
        paramwise_cfg=dict(layer_decay_rate=1.0),
    )
    warm = max(2, steps // 10)  # mmengine's warm-up of one step would never end
    cfg.param_scheduler = [
        dict(type="LinearLR", start_factor=0.01, by_epoch=False, begin=0, end=warm),
        dict(type="CosineAnnealingLR", by_epoch=False, begin=warm, end=steps, eta_min=0.0),
    ]
    cfg.train_cfg = dict(type="IterBasedTrainLoop", max_iters=steps)
    cfg.log_processor = dict(by_epoch=False, window_size=1)
    hooks = cfg.setdefault("default_hooks", {})
    hooks["logger"] = dict(type="LoggerHook", interval=1, log_metric_by_epoch=False)
    hooks["checkpoint"] = dict(
        type="mimseg.CheckpointHook", by_epoch=False, interval=25, max_keep_ckpts=1
    )
    cfg.randomness = dict(seed=seed)
    cfg.launcher = "none"
    for key in ("auto_scale_lr", "val_cfg", "val_dataloader", "val_evaluator", "test_cfg"):
        cfg.pop(key, None)
    if cfg.model.backbone.get("pos_embed") == "learned":
        cfg.model.backbone.pos_embed = "sincos"  # learned ones say nothing yet in so few steps
    count_steps(cfg.model, steps)


def held_out(cfg: Config, work_dir: Path, seed: int) -> Iterator[dict]:
    """Batches of the images held out, each view drawn once, the same for every method."""
    loader = copy.deepcopy(cfg.train_dataloader)
    loader.dataset.ann_file = str((work_dir / "held_out.txt").resolve())
    loader.sampler = dict(type="DefaultSampler", shuffle=False)
    loader.drop_last = False
    _seed(seed)
    yield from Runner.build_dataloader(loader, seed=seed)


def _seed(seed: int) -> None:
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
