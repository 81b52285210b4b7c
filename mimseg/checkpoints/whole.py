"""Loading a whole model, heads included."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from mimseg.errors import UserError


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
        raise UserError(key, path, f"tensors of the model's shapes ({reason})", fix) from error
    if missing:
        expected = f"every tensor of the model; {len(missing)} are missing, the first {missing[0]}"
        raise UserError(key, path, expected, fix)
