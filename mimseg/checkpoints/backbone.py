"""Builds and loads the backbone that a checkpoint holds."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path

import torch
from torch import Tensor

from mimseg.checkpoints.convert import resize_patches
from mimseg.checkpoints.files import UntrustedCheckpoint, read_checkpoint, resolve_checkpoint
from mimseg.checkpoints.loader import load_weights, weights_in
from mimseg.checkpoints.names import shorten
from mimseg.checkpoints.recognise import not_recognised, recognise
from mimseg.checkpoints.vit_shape import Shape, fits_grid, shape_of
from mimseg.checkpoints.written_config import written_config
from mimseg.data.transform import IMAGENET_MEAN, IMAGENET_STD, Transform
from mimseg.errors import UserError, require_at_least
from mimseg.students.archs import ARCHS
from mimseg.students.options import arch_settings
from mimseg.students.vit import ViT

_KEY = "source"
_OPTIONS = [name for name in inspect.signature(ViT).parameters if name != "init_cfg"]
# what weights tell of in part or not at all; the rest of a config's backbone is for training
_CONFIGURED = (
    *("window_size", "global_blocks", "last_block_heads", "norm_eps"),
    *("shifted_sampling", "rel_pos_resize"),
)
_PAPERS = ("tiny", "small", "base", "large", "huge")  # whose head counts everybody shares


def load(
    source: str | Path,
    *,
    num_heads: int | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    size: int | tuple[int, int] | str | None = "img_size",
    device: str | torch.device = "cpu",
    trust: bool = False,
    **options: object,
) -> ViT:
    """Build the backbone that a checkpoint holds, and load it.

    Takes what `mimseg train` writes and the files of every family that `mimseg convert` knows,
    whole models included: of a segmentor, a detector or a pretraining it is the backbone.

    Sizes, positions, layer scale, CLS token and norms are read from the weights. What these do not
    tell (head counts without relative positions, windows without decomposed ones, the norms'
    epsilon) is taken from the config in the checkpoint or work dir, which is parsed and never
    executed. Without a config, the heads are those of ViT and DeiT where width, depth and hidden
    width are those of tiny, small, base, large or huge, and have to be given otherwise; windows and
    epsilon are `mimseg.ViT`'s defaults. Official codes that differ (MoCo v3's small ViT has 12
    heads, TinyMIM's pretraining 6 in the tiny one and others in the last block) want
    `num_heads` and `last_block_heads`.

    Args:
        source: a checkpoint file, or a work dir (its last checkpoint).
        num_heads: head count of the blocks.
        mean, std: of RGB in [0, 1], for `.transform`. None takes the checkpoint's config, else
            ImageNet's: files of other codes do not tell. (BEiT's in timm want 0.5 and 0.5.)
        size: what `.transform` resizes and crops images to: "img_size", the size that the
            positions are made for; a side; (H, W); or None, to keep the images' size.
        device: where the network goes.
        trust: run code in the file. Only for files whose origin you know.
        **options: any argument of `mimseg.ViT`, in place of what was found. With another
            `img_size` position tables are resized, with another `patch_size` patches resampled.

    Returns:
        A `mimseg.ViT` in eval mode, with `.transform` and `.features`.

    Raises:
        UserError: no backbone that mimseg.ViT can be, weights that are missing or not finite, code
            in the file, or something that has to be given; the error names the option.
    """
    path, state, config, options = _open(source, num_heads, trust, options)
    vit = ViT(**options)
    report = load_weights(vit, state, path, key=_KEY)
    if report.missing:
        raise UserError(
            _KEY,
            path,
            expected=f"every weight of the backbone; the file has no {shorten(report.missing, 3)}",
            fix="leave out the option that asks for them",
        )
    size = options.get("img_size", 224) if size == "img_size" else size
    vit.transform = _transform(config, mean, std, size)
    text = ", ".join(f"{name}={value!r}" for name, value in options.items())
    logging.getLogger("mimseg").info("loaded %s: mimseg.ViT(%s)", path, text)
    return vit.eval().to(device)


def backbone_config(
    source: str | Path, *, num_heads: int | None = None, trust: bool = False
) -> dict:
    """The config of the `mimseg.ViT` that a checkpoint holds, whose weights are not loaded.

    Takes and raises what `load` does.
    """
    return dict(type="mimseg.ViT", **_open(source, num_heads, trust, {})[3])


def _open(
    source: str | Path, num_heads: int | None, trust: bool, options: dict
) -> tuple[str, dict[str, Tensor], dict, dict]:
    """A checkpoint's path, the backbone's weights, its config, and the arguments of its ViT."""
    if num_heads is not None:
        require_at_least("num_heads", num_heads, 1)
    _check_names(options)
    path = resolve_checkpoint(source, _KEY)
    checkpoint = _read(path, trust)
    weights = weights_in(checkpoint, path, _KEY)
    match = recognise(weights, path, _KEY)
    if match is None:
        raise not_recognised(_KEY, path, weights)
    if "patch_size" in options:
        resize_patches(match.state, options["patch_size"], key="patch_size")
    folder = Path(source).expanduser()
    config = written_config(checkpoint, folder if folder.is_dir() else None)
    return path, match.state, config, _options(match.state, path, config, num_heads, options)


def _check_names(options: Mapping) -> None:
    for name in options:
        if name not in _OPTIONS:
            near = get_close_matches(name, _OPTIONS, 1)
            fix = f"did you mean {near[0]}?" if near else ""
            raise UserError(name, options[name], expected="an argument of mimseg.ViT", fix=fix)


def _read(path: str, trust: bool) -> dict:
    try:
        return read_checkpoint(path, trust, mmap=True, key=_KEY)
    except UntrustedCheckpoint as error:
        fix = "if you trust its origin, load it with trust=True"
        raise UntrustedCheckpoint(
            error.key, error.value, expected=error.expected, fix=fix
        ) from error


def _options(
    state: dict[str, Tensor], path: str, config: dict, num_heads: int | None, given: dict
) -> dict:
    """The arguments of `mimseg.ViT`: those given, before the config's and the weights'."""
    try:
        shape = shape_of(state)
    except (KeyError, ValueError, IndexError) as error:
        expected = f"all weights of a ViT ({error})"
        raise UserError(_KEY, path, expected=expected, fix="the file is incomplete") from error
    backbone = _backbone(config)
    ours = str(backbone.get("type")).startswith("mimseg.")
    options = shape.options()
    if ours:
        options |= {name: backbone[name] for name in _CONFIGURED if name in backbone}
        if shape.pos_embed and backbone.get("pos_embed") in ("learned", "sincos"):
            options["pos_embed"] = backbone["pos_embed"]
    elif "eps" in _dict(backbone.get("norm_cfg")):
        options["norm_eps"] = backbone["norm_cfg"]["eps"]
    if (size := backbone.get("img_size")) and fits_grid(state, _grid(size, shape.patch)):
        options["img_size"] = size
    options |= given
    if "img_size" not in options and (shape.pos_embed or shape.tables != "none"):
        raise UserError(
            "img_size",
            None,
            expected=f"the size (H, W) that the positions in {path} are made for: they are not "
            "those of a square",
            fix="give it: img_size=(H, W)",
        )
    arch = options.get("arch") or dict(
        embed_dims=shape.width,
        num_layers=shape.depth,
        num_heads=num_heads or shape.heads or _configured_heads(backbone, ours, shape),
        feedforward_channels=shape.hidden,
    )
    arch = arch_settings(arch) | (dict(num_heads=num_heads) if num_heads else {})
    if arch["num_heads"] is None:
        raise UserError(
            "num_heads",
            None,
            expected=f"the head count of {path}: weights do not tell it, the file has no config, "
            f"and {shape.depth} blocks of width {shape.width} and {shape.hidden} are no size of "
            "the papers",
            fix="give it, as in num_heads=4 (many ViTs have one head per 64 channels)",
        )
    return options | dict(arch=arch)


def _model(config: dict) -> dict:
    """The config of the model; test-time augmentation wraps it."""
    model = _dict(config.get("model"))
    return _dict(model.get("module")) or model


def _backbone(config: dict) -> dict:
    """The config of the model's backbone, or of a model that is one."""
    model = _model(config)
    return _dict(model.get("backbone")) or model


def _dict(value: object) -> dict:
    return value if isinstance(value, dict) else {}


def _configured_heads(backbone: dict, ours: bool, shape: Shape) -> int | None:
    """The head count that a config says, else that of the papers' ViTs of this size."""
    arch = backbone.get("arch", "base" if ours else None)
    if isinstance(arch, str):  # mmpretrain's names are not all of our sizes
        arch = ARCHS.get(arch) if ours else None
    arch = arch or dict(embed_dims=shape.width, num_heads=backbone.get("num_heads"))
    if arch.get("embed_dims") == shape.width and arch.get("num_heads"):
        return arch["num_heads"]
    sizes = dict(embed_dims=shape.width, num_layers=shape.depth, feedforward_channels=shape.hidden)
    papers = [ARCHS[name] for name in _PAPERS]
    return next((arch["num_heads"] for arch in papers if sizes.items() <= arch.items()), None)


def _grid(size: int | Sequence[int], patch: int) -> tuple[int, int]:
    height, width = (size, size) if isinstance(size, int) else size
    return -(-height // patch), -(-width // patch)


def _transform(
    config: dict,
    mean: Sequence[float] | None,
    std: Sequence[float] | None,
    size: int | tuple[int, int] | None,
) -> Transform:
    """The preprocessing that a config says, ImageNet's where it says none."""
    model = _model(config)
    steps = _dict(model.get("data_preprocessor") or config.get("data_preprocessor"))
    configured, bgr = {key: model.get(key) for key in ("mean", "std")}, False  # a pretraining's
    if len(steps.get("mean") or ()) == 3:  # OpenMMLab's are of values up to 255
        bgr = not (steps.get("bgr_to_rgb") or steps.get("to_rgb"))
        order = -1 if bgr else 1
        configured = {key: [value / 255 for value in steps[key][::order]] for key in configured}
    mean = mean or configured["mean"] or IMAGENET_MEAN
    std = std or configured["std"] or IMAGENET_STD
    return Transform(tuple(mean), tuple(std), size, bgr)
