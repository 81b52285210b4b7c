"""Composes a pretraining of a folder of images from a shipped config."""

from __future__ import annotations

import copy
import os
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from mmengine.config import Config

from mimseg.data.checks.folder import IMAGE_SUFFIXES, require_path, walk_files
from mimseg.errors import UserError, require_at_least, require_choice
from mimseg.pipeline.provenance import usable_cores
from mimseg.recipes.configs import CONFIGS
from mimseg.recipes.methods import find_methods
from mimseg.students.archs import ARCHS

IMAGENET = 1_281_167  # images that the recipes' epochs are meant for
CPU_BATCH = 32  # ours: a ViT-B with its decoder then stays below 8 GB
HUB = {
    "clip": dict(
        type="mimseg.OpenCLIPTeacher", model="ViT-B-16-quickgelu", weights="hub:openai",
        output="tokens"),
    "dino": dict(type="mimseg.TimmTeacher", model="vit_base_patch16_224.dino", weights="hub"),
    "dinov2": dict(
        type="mimseg.TimmTeacher", model="vit_base_patch14_dinov2.lvd142m", weights="hub"),
}  # fmt: skip
NETWORKS = ("mimseg.OpenCLIPTeacher", "mimseg.TimmTeacher", "mimseg.ViTTeacher")


@dataclass(frozen=True)
class ImageCount:
    """What a folder holds, by suffix.

    Args:
        images: suffix -> number of files that are read.
        skipped: suffix -> number of files that are not.
    """

    images: dict[str, int]
    skipped: dict[str, int]

    @property
    def total(self) -> int:
        """Number of images."""
        return sum(self.images.values())

    def text(self) -> str:
        """Such as "50 (48 .jpg, 2 .png); skipped: 1 .heic"."""
        text = f"{self.total:,} ({_listed(self.images)})"
        return f"{text}; skipped: {_listed(self.skipped)}" if self.skipped else text


def _listed(counts: dict[str, int]) -> str:
    order = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return ", ".join(f"{number:,} {suffix}" for suffix, number in order)


def count_images(folder: str | Path) -> ImageCount:
    """Count the files of a folder and its sub-folders by suffix; hidden ones are left out.

    Raises:
        UserError: no such folder, or no image in it.
    """
    require_path("IMAGES", str(folder))
    images, skipped = Counter(), Counter()
    for name in walk_files(str(folder), ()):
        suffix = os.path.splitext(name)[1].lower() or "without a suffix"
        (images if suffix in IMAGE_SUFFIXES else skipped)[suffix] += 1
    if not images:
        raise UserError(
            "IMAGES",
            str(folder),
            expected=f"a folder with images ({', '.join(IMAGE_SUFFIXES)})",
            fix=f"it holds {_listed(skipped)}" if skipped else "it is empty",
        )
    return ImageCount(dict(images), dict(skipped))


@dataclass(frozen=True)
class Request:
    """What `mimseg pretrain` is asked for.

    Args:
        images: a folder, sub-folders included.
        method: the name of a method, see `mimseg methods`.
        teacher: "clip", "dino", "dinov2", "random", "none", a checkpoint or a work dir; None keeps
            the recipe's own.
        arch: the student's size.
        epochs: None takes the recipe's, and fewer where there are more images than ImageNet has.
        batch: images per step on each GPU; None takes the recipe's on a GPU and 32 on a CPU, and
            never more than there are.
        gpus: number of GPUs; 0 is the CPU.
    """

    images: Path
    method: str = "mae"
    teacher: str | None = None
    arch: str = "base"
    epochs: int | None = None
    batch: int | None = None
    gpus: int = 0


@dataclass
class Composition:
    """A config that can run, and the figures of its plan.

    Args:
        cfg: the config, without a work dir.
        recipe: name of the shipped config that it comes from.
        count: the images.
        epochs: of each stage.
        steps: of each stage.
        stages: number of stages.
        batch: images per step, all GPUs together.
        notes: sentences on what was chosen for the user.
    """

    cfg: Config
    recipe: str
    count: ImageCount
    epochs: int
    steps: int
    stages: int
    batch: int
    notes: list[str] = field(default_factory=list)


def compose(request: Request) -> Composition:
    """Compose the config of a pretraining.

    The shipped recipe gives every number; what changes is the data, the student's size, the
    teacher, the batch, and the length, to which the schedule is stretched. The learning rate is
    scaled to the batch when training starts (`mimseg.engine.scale_lr`).

    Raises:
        UserError: an unknown method or size, no images, or a teacher that the method has no place
            for.
    """
    require_choice("--arch", request.arch, ARCHS)
    for flag, value in (("--epochs", request.epochs), ("--batch", request.batch)):
        if value is not None:
            require_at_least(flag, value, 1)
    count = count_images(request.images)
    recipe, same_arch = _recipe(request)
    cfg = Config.fromfile(CONFIGS / f"{recipe}.py", import_custom_modules=False)
    notes = []
    if not same_arch:
        cfg.model.backbone.arch = request.arch
        notes.append(f"no recipe for a ViT-{request.arch}: the numbers of {recipe} are used")
    if request.teacher is not None:
        _set_teacher(cfg, request.method, request.teacher)
    _set_data(cfg, request, count)
    gpus = max(1, request.gpus)
    batch = cfg.train_dataloader.batch_size * gpus
    epochs = request.epochs or _epochs(cfg.train_cfg.max_epochs, count.total)
    steps = count.total // batch
    if not steps:
        raise UserError(
            "--gpus",
            request.gpus,
            expected=f"at most {count.total // cfg.train_dataloader.batch_size}: each step takes "
            f"{batch} images and there are {count.total}",
            fix="give a smaller --batch or fewer --gpus",
        )
    _set_length(cfg, epochs, steps)
    stages = len(cfg.get("stages") or [None])
    if epochs * steps < 1000:
        notes.append(
            f"{epochs * steps:,} steps are few for masked image modeling: raise --epochs, or give "
            "more images, for features that transfer"
        )
    return Composition(cfg, recipe, count, epochs, epochs * steps, stages, batch, notes)


def _recipe(request: Request) -> tuple[str, bool]:
    """The name of the shipped config to start from, and whether it is of the student's size."""
    methods = {method.name: method for method in find_methods()}
    require_choice("--method", request.method, sorted(methods))
    main = methods[request.method].config
    if f"_vit-{request.arch}-" in main:
        return main, True
    prefix = main[: main.index("_vit-")]
    sized = sorted(
        (path.relative_to(CONFIGS).with_suffix("").as_posix() for path in
         (CONFIGS / request.method).glob("*_in1k.py")), key=len)  # fmt: skip
    sized = [name for name in sized if name.startswith(f"{prefix}_vit-{request.arch}-")]
    return (sized[0], True) if sized else (main, False)


def _set_teacher(cfg: Config, method: str, teacher: str) -> None:
    """Replace the recipe's teacher."""
    current = cfg.model.get("teacher")
    external = (
        current is not None
        and current.type in NETWORKS
        and current.get("init") not in ("student", "random")
    )
    if teacher == "none":
        if external or current is None:
            raise UserError(
                "--teacher",
                teacher,
                expected=f"a teacher: {method} learns from a network that is trained already",
                fix="--method mae, simmim, maskfeat and dbot need none",
            )
        return
    if current is None or current.type not in NETWORKS:
        raise UserError(
            "--teacher",
            teacher,
            expected=f"none: {method} has a teacher of its own kind",
            fix="leave --teacher out, or take --method maskdistill, dbot, img2vec or tinymim",
        )
    options = copy.deepcopy(HUB.get(teacher)) or _own_teacher(teacher)
    if options["type"] == current.type == HUB["clip"]["type"]:
        return  # the recipe's own choice of CLIP's output stays
    backbone = cfg.model.backbone
    if teacher == "dinov2":  # patches of 14 on the student's grid
        options["input_size"] = 14 * (backbone.img_size // backbone.patch_size)
    cfg.model.pop("teacher")
    cfg.model.teacher = options
    _fit_relations(cfg)


def _own_teacher(source: str) -> dict:
    """A teacher config for "random", or for a checkpoint or work dir of the user's."""
    if source == "random":
        return dict(type="mimseg.ViTTeacher", init="random")
    from mimseg.checkpoints.backbone import backbone_config

    known = f"clip, dino, dinov2, random, none, or a file or work dir ({source} is not there)"
    if not Path(source).exists():
        raise UserError("--teacher", source, expected=known)
    return dict(type="mimseg.ViTTeacher", init=source, backbone=backbone_config(source))


def _fit_relations(cfg: Config) -> None:
    """Where relations are compared: a teacher's block at three quarters, and its head count.

    TinyMIM takes the 18th of 24 blocks (arXiv 2301.01296, section 4); the same share of another
    depth is our choice.
    """
    normalization, backbone = cfg.model.normalization, cfg.model.backbone
    if "layer" not in normalization or "last_block_heads" not in backbone:
        return
    import torch

    from mimseg.registry import MODELS

    with torch.device("meta"):
        student = MODELS.build({**backbone, "last_block_heads": None})
        teacher = MODELS.build(copy.deepcopy(cfg.model.teacher))
        teacher.bind(student)
    if not teacher.blocks():
        raise UserError("--teacher", cfg.model.teacher.type, expected="a vision transformer")
    layer = round(0.75 * len(teacher.blocks())) - 1
    normalization.layer = layer
    backbone.last_block_heads = teacher.head_shape(layer)[0]


def _set_data(cfg: Config, request: Request, count: ImageCount) -> None:
    loader = cfg.train_dataloader
    loader.dataset.data_root = cfg.data_root = str(Path(request.images).resolve())
    loader.dataset.extensions = IMAGE_SUFFIXES
    batch = request.batch or (loader.batch_size if request.gpus else CPU_BATCH)
    loader.batch_size = min(batch, count.total)
    cores = (usable_cores() or 1) // max(1, request.gpus)
    loader.num_workers = min(loader.num_workers, max(1, cores))


def _epochs(recipe: int, images: int) -> int:
    """Never more images in all than the recipe sees on ImageNet-1k; our choice."""
    return max(1, min(recipe, round(recipe * IMAGENET / images)))


def _set_length(cfg: Config, epochs: int, steps: int) -> None:
    """Train for so many epochs of so many steps, and stretch the schedule to them."""
    ratio = epochs / cfg.train_cfg.max_epochs
    cfg.train_cfg.max_epochs = epochs
    schedule = []
    for scheduler in cfg.param_scheduler:
        for key in ("begin", "end", "T_max"):
            if scheduler.get(key) is not None:
                scheduler[key] = round(scheduler[key] * ratio * steps)
        scheduler.pop("convert_to_iter_based", None)
        scheduler.by_epoch = False
        # mmengine reaches the end of a linear factor at its second step
        if scheduler.type != "LinearLR" or scheduler.end - scheduler.begin > 1:
            schedule.append(scheduler)
    cfg.param_scheduler = schedule
