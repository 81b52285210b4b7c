"""Loading a backbone from a checkpoint, loudly."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from pathlib import Path

import torch
from mmengine.logging import print_log
from torch import Tensor, nn

from mimseg.checkpoints.families import NAMES, OWN_ANCHOR
from mimseg.checkpoints.files import first_tensors, read_checkpoint, resolve_checkpoint
from mimseg.checkpoints.prefix import dense_heads, find_prefix, is_teacher
from mimseg.checkpoints.recognise import (
    from_mmpretrain,
    has_own_names,
    not_known,
    own_backbone,
    recognise,
    strange_names,
)
from mimseg.checkpoints.report import LoadReport, layer_indices, shorten
from mimseg.checkpoints.shape import shape_of
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

    A ViT takes the files of every family that `recognise` knows. Among our own names the prefix in
    the file is found by overlap ("backbone." wins a tie); what lies under a teacher is never taken.
    Where the module has `resize_state_dict(state) -> list of names`, it may
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
            weight is not finite, or weights of a block, of the patch embedding or of a frozen
            module are incomplete.
    """
    path = resolve_checkpoint(source, key)
    weights = weights_in(read_checkpoint(path, trust, key=key), path, key)
    report = load_weights(module, weights, path, key=key, extra_layers=extra_layers)
    level = logging.WARNING if report.pretrained or report.heads else logging.INFO
    print_log(str(report), logger or "current", level)
    return report


def load_weights(
    module: nn.Module,
    weights: dict[str, Tensor],
    path: str,
    *,
    key: str = "--init",
    extra_layers: bool = False,
) -> LoadReport:
    """Load a backbone from a checkpoint's tensors, as `load_backbone` does, and log nothing.

    Args:
        module, key, extra_layers: as of `load_backbone`.
        weights: the tensors by the file's names.
        path: the file that they come from, for messages.

    Raises:
        UserError: see `load_backbone`.
    """
    own = dict(module.state_dict())
    found = None
    if OWN_ANCHOR in own and not has_own_names(weights):
        found = recognise(weights, path, key)
    if found is None:
        usable = {name: value for name, value in weights.items() if not is_teacher(name)}
        usable = from_mmpretrain(usable)
        prefix = find_prefix(usable, own)
        if prefix is None:
            raise _no_backbone(key, path, weights)
        state = {k[len(prefix) :]: v for k, v in usable.items() if k.startswith(prefix)}
        outside = len(weights) - len(state)
    else:
        prefix, state, outside = found.prefix, found.state, len(found.left_out)
    if extra_layers:
        surplus = layer_indices(state) - layer_indices(own)
        state = {k: v for k, v in state.items() if not layer_indices([k]) & surplus}
    pretrained = _shape(state)
    resized = _without_cls_row(state, own)
    resize = getattr(module, "resize_state_dict", None)
    resized = list(dict.fromkeys(resized + list(resize(state) if resize else ())))

    matched = [name for name in own if name in state]
    missing = [name for name in own if name not in state]
    # without a prefix, the other modules of the file cannot be told from the backbone's extras
    unexpected = [name for name in state if name not in own]
    _check_architecture(key, path, prefix, own, state, weights, missing, unexpected, pretrained)
    fresh = [name for name in missing if not name.startswith("ln2.")]  # ln2: of the pooled tokens
    if fresh and getattr(module, "frozen", False):
        norm = "backbone.final_norm=False, or " if "ln1.weight" in fresh else ""
        raise UserError(
            key,
            path,
            expected=f"all weights of a frozen backbone; the file lacks {prefix}{shorten(fresh)}",
            fix=f"{norm}build the backbone as it was pretrained: {pretrained}",
        )

    module.load_state_dict({name: state[name] for name in matched}, strict=False)
    changed = [n for n in missing + unexpected if n.startswith(("pos_embed", "cls_token", "ln1."))]
    changed += [n for n in unexpected if n.startswith((*_ESSENTIAL, "rel_pos_bias"))]
    changed += _strange(own, state, prefix)
    return LoadReport(
        source=path,
        prefix=prefix,
        matched=tuple(matched),
        resized=tuple(resized),
        missing=tuple(missing),
        unexpected=tuple(unexpected),
        outside=outside,
        family="" if found is None else str(found.family),
        heads=tuple(dense_heads(weights)),
        pretrained=pretrained if changed else "",
    )


def weights_in(checkpoint: dict, path: str, key: str) -> dict[str, Tensor]:
    """The tensors of a checkpoint's first container that has any, or of the bare dict.

    Raises:
        UserError: there are none.
    """
    if found := first_tensors(checkpoint, _CONTAINERS):
        return {name.replace("_orig_mod.", ""): value for name, value in found.items()}
    keys = shorten(map(str, checkpoint))
    raise UserError(key, path, expected=f"a checkpoint with weights; its keys are {keys or 'none'}")


def _without_cls_row(state: dict[str, Tensor], own: dict[str, Tensor]) -> list[str]:
    """Take CLS's row off a position embedding for a model without CLS, as windows want it."""
    table = state.get("pos_embed")
    if table is None or table.ndim != 3 or "cls_token" in own or "cls_token" not in state:
        return []
    state["pos_embed"] = table[:, 1:]
    return ["pos_embed"]


def _strange(own: Iterable[str], state: dict[str, Tensor], prefix: str) -> list[str]:
    """What the file's backbone has and no mimseg.ViT; nothing where the module is none."""
    return strange_names(own_backbone(state, prefix)[0]) if OWN_ANCHOR in own else []


def _no_backbone(key: str, path: str, weights: dict[str, Tensor]) -> UserError:
    heads = sorted({".".join(name.split(".")[:2]) for name in weights})
    return UserError(
        key,
        path,
        expected="a checkpoint that holds this backbone; none of its names match. In the file: "
        + shorten(heads),
        fix=f"name a checkpoint of the pretraining, or of one of: {', '.join(NAMES)}",
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
    pretrained: str,
) -> None:
    """Raise unless `state` holds a backbone of `own`'s architecture."""
    essential = [n for n in own if n.startswith(_ESSENTIAL) and not _has(n, _MAY_BE_NEW)]
    lacking = [n for n in missing if n in set(essential)]
    if essential and len(lacking) == len(essential):
        raise _no_backbone(key, path, weights)

    ours, theirs = layer_indices(own), layer_indices(state)
    shapes = [n for n in own if n in state and own[n].shape != state[n].shape]
    if (shapes or lacking) and (strange := _strange(own, state, prefix)):
        raise not_known(key, path, "our names", [prefix + name for name in strange])
    if shapes:
        name = min(shapes, key=lambda n: not n.startswith("patch_embed."))  # the most telling one
        here, there = tuple(own[name].shape), tuple(state[name].shape)
        raise UserError(
            key,
            path,
            expected=f"weights of the model's shapes; {prefix}{name} is {there} in the file and "
            f"{here} in "
            f"the model (tensors that differ: {len(shapes)})",
            fix=_cause(shapes, name, here, there),
        )
    if ours != theirs and (lacking or theirs - ours):
        raise UserError(
            key,
            path,
            expected=f"a backbone of {len(ours)} blocks, as the model's; the file has "
            f"{len(theirs)}",
            fix="set the backbone's depth (arch, num_layers) to the checkpoint's",
        )
    if lacking:
        raise UserError(
            key,
            path,
            expected=f"all weights of the blocks; the file lacks {prefix}{shorten(lacking)}",
            fix=f"build the backbone as it was pretrained: {pretrained}; norms have to be there",
        )
    extra = [n for n in unexpected if n.startswith(_ESSENTIAL) and not _has(n, _MAY_BE_DROPPED)]
    if extra:
        raise UserError(
            key,
            path,
            expected=f"weights that the model can take; its blocks have no {shorten(extra, 2)}",
            fix=f"build the backbone as it was pretrained: {pretrained}",
        )
    sick = [n for n in own if n in state and not torch.isfinite(state[n]).all()]
    if sick:
        raise UserError(
            key,
            path,
            expected=f"finite weights; NaN or infinity in {shorten(sick, 3)}",
            fix="take an earlier checkpoint: that training diverged",
        )


def _cause(shapes: list[str], name: str, here: tuple, there: tuple) -> str:
    """What probably differs, from the most telling tensor."""
    if name.startswith("patch_embed.") and len(here) == len(there) == 4:
        if here[0] != there[0]:
            return f"another width: set the backbone's embed_dims to {there[0]}"
        if here[2:] != there[2:]:
            return (
                f"another patch size: set patch_size to {there[2]}, or resample the file's with "
                f"tools/convert.py --patch-size {here[2]}"
            )
        return f"another number of input channels: set in_channels to {there[1]}"
    if all(".ffn." in n or ".mlp." in n for n in shapes):
        return "another hidden width of the MLP: set feedforward_channels to the checkpoint's"
    if all(n == "pos_embed" for n in shapes):
        return "a table that cannot be resized: set img_size, or with or without a CLS token"
    return "another width: build the backbone as it was pretrained"


def _shape(state: dict[str, Tensor]) -> str:
    """The backbone that a file's weights, in our names, are of."""
    try:
        return str(shape_of(state))
    except (KeyError, ValueError):  # not a ViT's
        return "layer scale (gamma), qkv_bias, norms"


def _has(name: str, parts: Iterable[str]) -> bool:
    return any(part in name for part in parts)
