"""Makes a teacher's config small: a rule for each kind, found by the class and its parents."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass

import torch

from mimseg.errors import UserError
from mimseg.registry import MODELS, find_parameter
from mimseg.rehearse.size import Size
from mimseg.rehearse.vit import Student, shrink_vit

VOCABULARY = 64  # of a small tokenizer


@dataclass(frozen=True)
class SmallTeacher:
    """What a small teacher is like.

    Args:
        side: of the images that it sees, in pixels.
        depth: blocks that the full-size one has; 0 where blocks mean nothing.
    """

    side: int
    depth: int = 0


def shrink_teacher(cfg: dict, size: Size, student: Student, handed: bool = False) -> SmallTeacher:
    """Make a teacher's config small, in place: the same class, random weights, a matching grid.

    A class that has none of ours among its parents says how by a static method of its own,
    `small_form(cfg, size, student) -> SmallTeacher`, which does the same.

    Args:
        cfg: the teacher's config.
        size: the small size.
        student: what the full-size student was.
        handed: whether it is the student of an earlier stage, and so of our patch size.

    Raises:
        UserError: no registry knows the type, or its class has no small form.
    """
    kind = MODELS.get(cfg["type"])
    small_form = getattr(kind, "small_form", None)
    if small_form is not None:
        return small_form(cfg, size, student)
    for parent in kind.__mro__ if kind else ():
        if parent.__name__ in RULES:
            return RULES[parent.__name__](cfg, size, student, handed)
    raise UserError(
        "teacher.type",
        cfg["type"],
        expected="a registered teacher with a small form",
        fix="give the class a static method small_form(cfg, size, student), as "
        "mimseg.rehearse.teachers.shrink_teacher says",
    )


def parameter(cfg: dict, name: str) -> inspect.Parameter | None:
    """The parameter of that name that the config's class, or a parent of it, takes."""
    return find_parameter(MODELS.get(cfg["type"]), name)


def _patches(cfg: dict, size: Size, student: Student, handed: bool) -> SmallTeacher:
    """Pixels, and histograms in cells of a patch."""
    if cfg.get("patch_size"):
        cfg["patch_size"] = size.patch(cfg["patch_size"], student.patch_size)
    for key in ("pool", "gaussian_window"):
        known = parameter(cfg, key)
        if known is not None:
            old = cfg.get(key, known.default)
            cfg[key] = size.patch(old, student.patch_size) if old else old
    return SmallTeacher(size.grid * cfg.get("patch_size", size.patch_size))


def _vit(cfg: dict, size: Size, student: Student, handed: bool) -> SmallTeacher:
    side, depth = size.img_size, student.depth
    if cfg.get("backbone"):
        old = cfg["backbone"].get("patch_size", 16)
        patch = size.patch_size if handed else size.patch(old, student.patch_size)
        side = size.grid * patch
        depth = shrink_vit(cfg["backbone"], size, patch, side).depth
    if cfg.get("init") not in (None, "student", "random"):
        cfg["init"] = "random"
        cfg.pop("saved", None)
    if cfg.get("depth") is not None:
        kept = cfg["depth"]
        cfg["depth"], depth = size.blocks(kept, depth), kept
    return SmallTeacher(side, depth)


def _timm(cfg: dict, size: Size, student: Student, handed: bool) -> SmallTeacher:
    with torch.device("meta"):
        teacher = MODELS.build(dict(cfg))
    net = teacher.net
    cfg.update(weights="random", model_kwargs=dict(cfg.get("model_kwargs") or {}))
    cfg.pop("trust", None)
    options, known = cfg["model_kwargs"], inspect.signature(type(net).__init__).parameters
    if teacher.with_blocks:
        patch = size.patch(net.patch_embed.patch_size[0], student.patch_size)
        attention = getattr(net.blocks[0], "attn", net.blocks[0])
        options.update(
            embed_dim=size.width,
            depth=size.depth,
            num_heads=size.heads(attention.num_heads),
            patch_size=patch,
            img_size=size.grid * patch,
        )
        return SmallTeacher(size.grid * patch, len(net.blocks))
    stages = 4
    narrow = tuple(size.width * share // 4 for share in (1, 2, 2, 4))
    if {"layers", "channels"} <= known.keys():  # ResNet
        options.update(layers=(1,) * stages, channels=narrow)
    elif {"depths", "dims"} <= known.keys():  # ConvNeXt
        options.update(depths=(1,) * stages, dims=narrow)
    return SmallTeacher(size.grid * net.feature_info[teacher._feature]["reduction"])


def _open_clip(cfg: dict, size: Size, student: Student, handed: bool) -> SmallTeacher:
    import open_clip

    model = cfg["model"]
    full = open_clip.get_model_config(model.replace("/", "-")) if isinstance(model, str) else model
    if full is None:
        MODELS.build(cfg)  # raises, and says which names there are
    vision = dict(full["vision_cfg"])
    depth, old_width = vision.get("layers", 12), vision.get("width", 768)
    patch = size.patch(vision.get("patch_size", 16), student.patch_size)
    heads = size.heads(old_width // vision.get("head_width", 64))
    vision.update(
        layers=size.depth,
        width=size.width,
        head_width=size.width // heads,
        patch_size=patch,
        image_size=size.grid * patch,
    )
    embed = max(4, full["embed_dim"] * size.width // old_width)
    cfg["model"] = dict(
        embed_dim=embed, vision_cfg=vision, quick_gelu=full.get("quick_gelu", False)
    )
    cfg["weights"] = "random"
    for key in ("img_size", "trust"):
        cfg.pop(key, None)
    return SmallTeacher(size.grid * patch, depth)


def _tokenizer(cfg: dict, size: Size, student: Student, handed: bool) -> SmallTeacher:
    tokenizer = cfg["tokenizer"]
    cfg["weights"] = "random"
    cfg.pop("trust", None)
    if "VQKD" in tokenizer["type"]:
        encoder = dict(tokenizer.get("encoder_config") or {})
        patch = size.patch(encoder.get("patch_size", 16), student.patch_size)
        arch = dict(
            embed_dims=size.width,
            num_layers=2,
            num_heads=size.heads(12),
            feedforward_channels=2 * size.width,
        )
        encoder.update(arch=arch, img_size=size.grid * patch, patch_size=patch)
        tokenizer.update(encoder_config=encoder, num_embed=VOCABULARY, embed_dims=8)
        return SmallTeacher(size.grid * patch)
    tokenizer.update(n_hid=size.width // 3, n_blk_per_group=1, vocab_size=VOCABULARY)
    return SmallTeacher(size.grid * 8)  # DALL-E's own pixels a token


RULES: dict[str, Callable[[dict, Size, Student, bool], SmallTeacher]] = {
    "PixelTeacher": _patches,
    "HOGTeacher": _patches,
    "ViTTeacher": _vit,
    "TimmTeacher": _timm,
    "OpenCLIPTeacher": _open_clip,
    "TokenizerTeacher": _tokenizer,
}
