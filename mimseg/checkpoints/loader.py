"""Loading a backbone from a checkpoint, loudly."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import torch
from mmengine.logging import print_log
from torch import Tensor, nn

from mimseg.checkpoints.files import read_checkpoint, resolve_checkpoint
from mimseg.checkpoints.report import LoadReport, layer_indices, shorten
from mimseg.errors import UserError

_CONTAINERS = ("state_dict", "model", "module", "student", "teacher")
_ESSENTIAL = ("patch_embed.", "layers.")
_MAY_BE_NEW = ("gamma", "relative_position", "rel_pos", "mask_token")
_MAY_BE_DROPPED = ("relative_position", "rel_pos", "mask_token")


def load_backbone(
    module: nn.Module,
    source: str | Path,
    *,
    trust: bool = False,
    logger: logging.Logger | str | None = None,
    key: str = "--init",
    extra_layers: bool = False,
) -> LoadReport:
    """Load a backbone's weights from a checkpoint of any model that contains it.

    The names' prefix in the file is found by overlap ("backbone." wins a tie); what lies under a
    teacher is never taken. Where the module has `resize_state_dict(state) -> list of names`, it may
    first resize tensors in place. Nothing is changed in `module` unless everything fits.

    Args:
        module: the backbone.
        source: a checkpoint file, or a work dir (its last checkpoint).
        trust: unpickle code in the file; see `read_checkpoint`.
        logger: where the report goes; None for the current one.
        key: the config key or flag that errors name.
        extra_layers: let the file have more blocks than the module, which takes the first ones.

    Returns:
        The report, which is also logged: matched, resized, missing and unexpected by group.

    Raises:
        UserError: there is no such checkpoint, no backbone in it, its shapes or depth differ, a
            weight is not finite, or a block's or the patch embedding's weights are incomplete.
    """
    path = resolve_checkpoint(source, key)
    weights = _weights_in(read_checkpoint(path, trust, key=key), path, key)
    own = dict(module.state_dict())
    usable = {name: value for name, value in weights.items() if not _is_teacher(name)}
    prefix = _find_prefix(usable, own)
    if prefix is None:
        raise _no_backbone(key, path, weights)
    state = {k[len(prefix) :]: v for k, v in usable.items() if k.startswith(prefix)}
    if extra_layers:
        surplus = layer_indices(state) - layer_indices(own)
        state = {k: v for k, v in state.items() if not layer_indices([k]) & surplus}
    resize = getattr(module, "resize_state_dict", None)
    resized = list(resize(state)) if resize else []

    matched = [name for name in own if name in state]
    missing = [name for name in own if name not in state]
    # without a prefix, the other modules of the file cannot be told from the backbone's extras
    unexpected = [name for name in state if name not in own]
    _check_architecture(key, path, prefix, own, state, weights, missing, unexpected)

    module.load_state_dict({name: state[name] for name in matched}, strict=False)
    report = LoadReport(
        source=path,
        prefix=prefix,
        matched=tuple(matched),
        resized=tuple(resized),
        missing=tuple(missing),
        unexpected=tuple(unexpected),
        outside=len(weights) - len(state),
    )
    changed = [n for n in missing + unexpected if n.startswith(("pos_embed", "cls_token"))]
    changed += [n for n in unexpected if n.startswith(_ESSENTIAL)]
    print_log(str(report), logger or "current", logging.WARNING if changed else logging.INFO)
    return report


def _weights_in(checkpoint: dict, path: str, key: str) -> dict[str, Tensor]:
    """The tensors of the first container that has any, or of the bare dict."""
    for candidate in [checkpoint.get(name) for name in _CONTAINERS] + [checkpoint]:
        if isinstance(candidate, dict):
            found = {k: v for k, v in candidate.items() if isinstance(v, Tensor)}
            if found:
                return {str(name).replace("_orig_mod.", ""): v for name, v in found.items()}
    keys = shorten(map(str, checkpoint))
    raise UserError(key, path, f"a checkpoint with weights; its keys are {keys or 'none'}")


def _is_teacher(name: str) -> bool:
    """`teacher.x`, `teachers.0.x` or `module.teacher_backbone.x`."""
    return any(part.startswith("teacher") for part in name.split("."))


def _find_prefix(names: Iterable[str], own: Iterable[str]) -> str | None:
    """The prefix under which most of the module's own names appear, or None."""
    own = set(own)
    hits: Counter[str] = Counter()
    with_stem: set[str] = set()
    for name in names:
        start = 0
        while True:
            if name[start:] in own:
                hits[name[:start]] += 1
                if name.startswith("patch_embed.", start):
                    with_stem.add(name[:start])
            start = name.find(".", start) + 1
            if start == 0:
                break

    def rank(prefix: str) -> tuple:
        # the stem first: a decoder has blocks of the same names, but no patch embedding
        named = (prefix == "backbone.") + 0.5 * prefix.endswith("backbone.")
        return prefix in with_stem, hits[prefix], named, -len(prefix), prefix

    return max(hits, key=rank, default=None)


def _no_backbone(key: str, path: str, weights: dict[str, Tensor]) -> UserError:
    heads = sorted({".".join(name.split(".")[:2]) for name in weights})
    return UserError(
        key,
        path,
        "a checkpoint that holds this backbone; none of its names match. In the file: "
        + shorten(heads),
        "name a checkpoint of the pretraining, or convert its names first",
    )


def _check_architecture(
    key: str,
    path: str,
    prefix: str,
    own: dict[str, Tensor],
    state: dict[str, Tensor],
    weights: dict[str, Tensor],
    missing: list[str],
    unexpected: list[str],
) -> None:
    """Raise unless `state` holds a backbone of `own`'s architecture."""
    essential = [n for n in own if n.startswith(_ESSENTIAL) and not _has(n, _MAY_BE_NEW)]
    lacking = [n for n in missing if n in set(essential)]
    if essential and len(lacking) == len(essential):
        raise _no_backbone(key, path, weights)

    ours, theirs = layer_indices(own), layer_indices(state)
    shapes = [n for n in own if n in state and own[n].shape != state[n].shape]
    if shapes:
        name = min(shapes, key=lambda n: not n.startswith("patch_embed."))  # the most telling one
        here, there = tuple(own[name].shape), tuple(state[name].shape)
        raise UserError(
            key,
            path,
            f"weights of the model's shapes; {prefix}{name} is {there} in the file and {here} in "
            f"the model (tensors that differ: {len(shapes)})",
            _cause(shapes, name, here, there),
        )
    if ours != theirs and (lacking or theirs - ours):
        raise UserError(
            key,
            path,
            f"a backbone of {len(ours)} blocks, as the model's; the file has {len(theirs)}",
            "set the backbone's depth (arch, num_layers) to the checkpoint's",
        )
    if lacking:
        raise UserError(
            key, path, f"all weights of the blocks; the file lacks {prefix}{shorten(lacking)}"
        )
    extra = [n for n in unexpected if n.startswith(_ESSENTIAL) and not _has(n, _MAY_BE_DROPPED)]
    if extra:
        raise UserError(
            key,
            path,
            f"weights that the model can take; its blocks have no {shorten(extra, 2)}",
            "build the backbone as it was pretrained: layer scale (gamma), qkv_bias, norms",
        )
    sick = [n for n in own if n in state and not torch.isfinite(state[n]).all()]
    if sick:
        raise UserError(
            key,
            path,
            f"finite weights; NaN or infinity in {shorten(sick, 3)}",
            "take an earlier checkpoint: that training diverged",
        )


def _cause(shapes: list[str], name: str, here: tuple, there: tuple) -> str:
    """What probably differs, from the most telling tensor."""
    if name.startswith("patch_embed.") and len(here) == len(there) == 4:
        if here[0] != there[0]:
            return f"another width: set the backbone's embed_dims to {there[0]}"
        if here[2:] != there[2:]:
            return f"another patch size: set patch_size to {there[2]}"
        return f"another number of input channels: set in_channels to {there[1]}"
    if all(".ffn." in n or ".mlp." in n for n in shapes):
        return "another hidden width of the MLP: set feedforward_channels to the checkpoint's"
    if all(n == "pos_embed" for n in shapes):
        return "a table that cannot be resized: set img_size, or with or without a CLS token"
    return "another width: build the backbone as it was pretrained"


def _has(name: str, parts: Iterable[str]) -> bool:
    return any(part in name for part in parts)
