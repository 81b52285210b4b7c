"""Loads backbones and whole models from checkpoints, and refuses what does not fit."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

from mmengine.logging import print_log
from torch import Tensor, nn

from mimseg.checkpoints.families import NAMES, OWN_ANCHOR
from mimseg.checkpoints.files import first_tensors, read_checkpoint, resolve_checkpoint
from mimseg.checkpoints.match import Match, compare
from mimseg.checkpoints.names import (
    dense_heads,
    find_prefix,
    is_teacher,
    layer_indices,
    shorten,
)
from mimseg.checkpoints.recognise import (
    Found,
    from_mmpretrain,
    has_own_names,
    not_known,
    own_backbone,
    recognise,
    strange_names,
)
from mimseg.checkpoints.report import BackboneReport, LoadReport
from mimseg.checkpoints.vit_shape import shape_of
from mimseg.errors import UserError

_CONTAINERS = ("state_dict", "model", "module", "student", "teacher")
_BACKBONE = "backbone."
_ESSENTIAL = ("patch_embed.", "layers.")
_TELLING = ("pos_embed", "cls_token", "ln1.")
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
) -> BackboneReport:
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
) -> BackboneReport:
    """Load a backbone from a checkpoint's tensors, as `load_backbone` does, and log nothing.

    Args:
        module, key, extra_layers: as of `load_backbone`.
        weights: the tensors by the file's names.
        path: the file that they come from, for messages.

    Raises:
        UserError: see `load_backbone`.
    """
    model_state = dict(module.state_dict())
    backbone = _find_backbone(weights, model_state, path, key)
    state, prefix = backbone.state, backbone.prefix
    if extra_layers:
        surplus = layer_indices(state) - layer_indices(model_state)
        state = {k: v for k, v in state.items() if not layer_indices([k]) & surplus}
    pretrained = _shape_text(state)
    resized = _drop_cls_row(state, model_state)
    resize = getattr(module, "resize_state_dict", None)
    resized = dict.fromkeys(resized + list(resize(state) if resize else ()))

    # without a prefix, the other modules of the file look like extras of the backbone
    match = compare(model_state, state)
    strange = _strange_names(model_state, state, prefix)
    lacking = [name for name in match.missing if _is_essential(name)]
    if lacking and len(lacking) == sum(map(_is_essential, model_state)):
        raise _no_backbone(key, path, weights)
    if (match.shapes or lacking) and strange:
        raise not_known(key, path, "our names", [prefix + name for name in strange])
    if misfit := _misfit(match, lacking, model_state, state, prefix, pretrained):
        raise UserError(key, path, expected=misfit[0], fix=misfit[1])
    match.require_finite(key, path)
    if getattr(module, "frozen", False):
        _require_all(match, prefix, pretrained, key, path)

    module.load_state_dict({name: state[name] for name in match.matched}, strict=False)
    telling = (*_TELLING, *_ESSENTIAL, "rel_pos_bias")
    changed = [name for name in match.missing if name.startswith(_TELLING)] + strange
    changed += [name for name in match.unexpected if name.startswith(telling)]
    return BackboneReport(
        "backbone",
        path,
        match,
        resized=tuple(resized),
        prefix=prefix,
        outside=len(backbone.left_out),
        family="" if backbone.family is None else str(backbone.family),
        heads=tuple(dense_heads(weights)),
        pretrained=pretrained if changed else "",
    )


def load_whole(
    model: nn.Module, weights: Mapping[str, Tensor], path: str, key: str, fix: str
) -> LoadReport:
    """Load every tensor of a model; what the weights have beyond it is left out and reported.

    Args:
        model: the model.
        weights: by its names.
        path: the file they come from, for messages.
        key: names the checkpoint in messages.
        fix: what to do where they do not fit.

    Returns:
        The report, which is also logged where the weights have more than the model.

    Raises:
        UserError: a tensor is missing, has another shape, or is not finite.
    """
    match = compare(model.state_dict(), weights)
    match.require_finite(key, path)
    match = _load(model, weights, match, "tensors of the model's shapes", path, key, fix)
    if lost := match.missing:
        expected = f"every tensor of the model; {len(lost)} are missing, the first {lost[0]}"
        raise UserError(key, path, expected=expected, fix=fix)
    report = LoadReport("model", f"{path} ({key})", match, resized=tuple(match.shapes))
    if not report.complete:
        print_log(str(report), "current", logging.WARNING)
    return report


def load_start(model: nn.Module, weights: Mapping[str, Tensor], path: str, key: str) -> LoadReport:
    """Start a training from a trained model: its whole backbone, and the rest where it fits.

    What does not fit, such as the last layer of a head with other classes, keeps its initial values
    and is logged by name.

    Args:
        model: the model.
        weights: by its names.
        path: the file they come from, for messages.
        key: names the checkpoint in messages.

    Returns:
        The report, which is also logged.

    Raises:
        UserError: a tensor of the backbone is missing, or has another shape, or a weight is not
            finite.
    """
    match = compare(model.state_dict(), weights)
    if lost := [name for name in match.missing if name.startswith(_BACKBONE)]:
        expected = f"a trained model with this backbone; it lacks {shorten(lost, 2)}"
        fix = "a backbone alone, of any family, goes to --init"
        raise UserError(key, path, expected=expected, fix=fix)
    initial = {name for name in match.shapes if not name.startswith(_BACKBONE)}
    match.require_finite(key, path, ignore=initial)
    fitting = {name: value for name, value in weights.items() if name not in initial}
    fix = "build the backbone as it was trained"
    _load(model, fitting, match, "a backbone of the model's shapes", path, key, fix)
    resized = tuple(name for name in match.shapes if name not in initial)
    report = LoadReport("model", f"{path} ({key})", match, resized, tuple(sorted(initial)))
    level = logging.INFO if report.complete else logging.WARNING
    print_log(str(report), "current", level)
    return report


def weights_in(checkpoint: dict, path: str, key: str) -> dict[str, Tensor]:
    """The tensors of a checkpoint's first container that has any, or of the bare dict.

    Raises:
        UserError: there are none.
    """
    if weights := first_tensors(checkpoint, _CONTAINERS):
        return {name.replace("_orig_mod.", ""): value for name, value in weights.items()}
    keys = shorten(map(str, checkpoint))
    raise UserError(key, path, expected=f"a checkpoint with weights; its keys are {keys or 'none'}")


def _load(
    model: nn.Module,
    weights: Mapping[str, Tensor],
    match: Match,
    expected: str,
    path: str,
    key: str,
    fix: str,
) -> Match:
    """Load the weights; return the match with what is missing after the model's own hooks.

    These may rename and resize (the ViT's do), so that they have the last word on shapes.
    """
    try:
        missing = model.load_state_dict(weights, strict=False).missing_keys
    except RuntimeError as error:
        reason = " ".join(str(error).split("\n\t")[1:2]) or str(error)
        raise UserError(key, path, expected=f"{expected} ({reason})", fix=fix) from error
    return replace(match, missing=tuple(missing))


def _find_backbone(
    weights: dict[str, Tensor], model_state: dict[str, Tensor], path: str, key: str
) -> Found:
    """Find the backbone by its family's names, or by the model's own.

    Raises:
        UserError: the file holds none.
    """
    if OWN_ANCHOR in model_state and not has_own_names(weights):
        if vit := recognise(weights, path, key):
            return vit
    usable = from_mmpretrain({n: value for n, value in weights.items() if not is_teacher(n)})
    prefix = find_prefix(usable, model_state)
    if prefix is None:
        raise _no_backbone(key, path, weights)
    state = {n[len(prefix) :]: value for n, value in usable.items() if n.startswith(prefix)}
    others = tuple(n for n in weights if is_teacher(n) or not n.startswith(prefix))
    return Found(None, prefix, state, others)


def _drop_cls_row(state: dict[str, Tensor], model_state: dict[str, Tensor]) -> list[str]:
    """Take CLS's row off a position embedding for a model without CLS, as windows want it."""
    table = state.get("pos_embed")
    if table is None or table.ndim != 3 or "cls_token" in model_state or "cls_token" not in state:
        return []
    state["pos_embed"] = table[:, 1:]
    return ["pos_embed"]


def _strange_names(model_state: Iterable[str], state: dict[str, Tensor], prefix: str) -> list[str]:
    """Names of the file's backbone that no mimseg.ViT has; none where the module is no ViT."""
    return strange_names(own_backbone(state, prefix)[0]) if OWN_ANCHOR in model_state else []


def _no_backbone(key: str, path: str, weights: dict[str, Tensor]) -> UserError:
    heads = sorted({".".join(name.split(".")[:2]) for name in weights})
    return UserError(
        key,
        path,
        expected="a checkpoint that holds this backbone; none of its names match. In the file: "
        + shorten(heads),
        fix=f"name a checkpoint of the pretraining, or of one of: {', '.join(NAMES)}",
    )


def _misfit(
    match: Match,
    lacking: list[str],
    model_state: dict[str, Tensor],
    state: dict[str, Tensor],
    prefix: str,
    pretrained: str,
) -> tuple[str, str] | None:
    """Why another architecture than the model's was found, and what to do; None where it fits."""
    if match.shapes:
        # the patch embedding says most
        name = min(match.shapes, key=lambda n: not n.startswith("patch_embed."))
        text = match.shape_text(name, prefix)
        return f"weights of the model's shapes; {text}", _cause(match.shapes, name)
    ours, theirs = layer_indices(model_state), layer_indices(state)
    if ours != theirs and (lacking or theirs - ours):
        text = f"a backbone of {len(ours)} blocks, as the model's; the file has {len(theirs)}"
        return text, "set the backbone's depth (arch, num_layers) to the checkpoint's"
    rebuild = f"build the backbone as it was pretrained: {pretrained}"
    if lacking:
        text = f"all weights of the blocks; the file lacks {prefix}{shorten(lacking)}"
        return text, f"{rebuild}; norms have to be there"
    extra = [n for n in match.unexpected if n.startswith(_ESSENTIAL)]
    if extra := [n for n in extra if not _has(n, _MAY_BE_DROPPED)]:
        text = f"weights that the model can take; its blocks have no {shorten(extra, 2)}"
        return text, rebuild
    return None


def _require_all(match: Match, prefix: str, pretrained: str, key: str, path: str) -> None:
    """Raise where a weight is missing that a frozen backbone would keep as drawn."""
    # ln2 is the norm of pooled tokens
    if names := [name for name in match.missing if not name.startswith("ln2.")]:
        expected = f"all weights of a frozen backbone; the file lacks {prefix}{shorten(names)}"
        norm = "backbone.final_norm=False, or " if "ln1.weight" in names else ""
        fix = f"{norm}build the backbone as it was pretrained: {pretrained}"
        raise UserError(key, path, expected=expected, fix=fix)


def _is_essential(name: str) -> bool:
    return name.startswith(_ESSENTIAL) and not _has(name, _MAY_BE_NEW)


def _cause(shapes: dict[str, tuple[tuple[int, ...], tuple[int, ...]]], name: str) -> str:
    """What probably differs, from the tensor that says most."""
    there, here = shapes[name]
    if name.startswith("patch_embed.") and len(here) == len(there) == 4:
        if here[0] != there[0]:
            return f"another width: set the backbone's embed_dims to {there[0]}"
        if here[2:] != there[2:]:
            return (
                f"another patch size: set patch_size to {there[2]}, or resample the file's with "
                f"mimseg convert --patch-size {here[2]}"
            )
        return f"another number of input channels: set in_channels to {there[1]}"
    if all(".ffn." in n or ".mlp." in n for n in shapes):
        return "another hidden width of the MLP: set feedforward_channels to the checkpoint's"
    if all(n == "pos_embed" for n in shapes):
        return "a table that cannot be resized: set img_size, or with or without a CLS token"
    return "another width: build the backbone as it was pretrained"


def _shape_text(state: dict[str, Tensor]) -> str:
    """The backbone that a file's weights, in our names, belong to."""
    try:
        return str(shape_of(state))
    except (KeyError, ValueError):  # not a ViT's
        return "layer scale (gamma), qkv_bias, norms"


def _has(name: str, parts: Iterable[str]) -> bool:
    return any(part in name for part in parts)
