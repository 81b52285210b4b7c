"""Loading a whole model, heads included."""

from __future__ import annotations

import logging
from collections.abc import Mapping

import torch
from mmengine.logging import print_log
from torch import Tensor, nn

from mimseg.checkpoints.report import shorten
from mimseg.errors import UserError

_BACKBONE = "backbone."


def load_whole(
    model: nn.Module, weights: Mapping[str, Tensor], path: str, key: str, fix: str
) -> None:
    """Load every tensor of a model; what the weights have beyond it is left out.

    Args:
        model: the model.
        weights: by its names.
        path: the file they come from, for messages.
        key: names the checkpoint in messages.
        fix: what to do where they do not fit.

    Raises:
        UserError: a tensor is missing, or has another shape.
    """
    try:
        missing = model.load_state_dict(weights, strict=False).missing_keys
    except RuntimeError as error:
        reason = " ".join(str(error).split("\n\t")[1:2]) or str(error)
        raise UserError(
            key, path, expected=f"tensors of the model's shapes ({reason})", fix=fix
        ) from error
    if missing:
        expected = f"every tensor of the model; {len(missing)} are missing, the first {missing[0]}"
        raise UserError(key, path, expected=expected, fix=fix)


def load_start(model: nn.Module, weights: Mapping[str, Tensor], path: str, key: str) -> None:
    """Start a training from a trained model: its whole backbone, and the rest where it fits.

    What does not fit, such as the last layer of a head with other classes, stays as it was drawn
    and is logged by name.

    Args:
        model: the model.
        weights: by its names.
        path: the file they come from, for messages.
        key: names the checkpoint in messages.

    Raises:
        UserError: a tensor of the backbone is missing, or has another shape, or a weight is not
            finite.
    """
    own = model.state_dict()
    lost = [name for name in own if name.startswith(_BACKBONE) and name not in weights]
    if lost:
        expected = f"a trained model with this backbone; it lacks {shorten(lost, 2)}"
        raise UserError(
            key, path, expected=expected, fix="a backbone alone, of any family, goes to --init"
        )
    rest = [name for name in own if not name.startswith(_BACKBONE)]
    other = {n for n in rest if n in weights and weights[n].shape != own[n].shape}
    fitting = {name: value for name, value in weights.items() if name not in other}
    sick = [name for name in own if name in fitting and not torch.isfinite(fitting[name]).all()]
    if sick:
        expected = f"finite weights; NaN or infinity in {shorten(sick, 3)}"
        raise UserError(
            key, path, expected=expected, fix="take an earlier checkpoint: that training diverged"
        )
    try:
        model.load_state_dict(fitting, strict=False)
    except RuntimeError as error:
        reason = " ".join(str(error).split("\n\t")[1:2]) or str(error)
        fix = "build the backbone as it was trained"
        raise UserError(
            key, path, expected=f"a backbone of the model's shapes ({reason})", fix=fix
        ) from error
    lines = [f"model loaded from {path} ({key}): {len(own.keys() & fitting.keys())} tensors"]
    for title, names in (
        ("other shapes, left as drawn", sorted(other)),
        ("missing, left as drawn", [name for name in rest if name not in weights]),
        ("unexpected, left out", [name for name in weights if name not in own]),
    ):
        if names:
            lines.append(f"  {title}: {len(names)}: {shorten(names)}")
    level = logging.WARNING if len(lines) > 1 else logging.INFO
    print_log("\n".join(lines), "current", level)
