"""Compares the tensors of a file with those of a model."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from mimseg.checkpoints.names import shorten
from mimseg.errors import UserError

# batch norm's count of its updates: files may lack it, and torch then sets it to zero
_OPTIONAL = "num_batches_tracked"


@dataclass(frozen=True)
class Match:
    """How the tensors of a file fit those of a model, by name.

    Args:
        matched: names that both have, in the model's order.
        missing: names of the model that the file lacks.
        unexpected: names of the file that the model lacks.
        shapes: the matched names whose shapes differ -> (shape in the file, shape in the model).
        not_finite: the matched names with NaN or infinity in the file.
    """

    matched: tuple[str, ...]
    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    shapes: dict[str, tuple[tuple[int, ...], tuple[int, ...]]]
    not_finite: tuple[str, ...]

    def shape_text(self, name: str | None = None, prefix: str = "") -> str:
        """One difference of shapes in words, and how many there are.

        Args:
            name: which one; None for the first.
            prefix: what the file puts before the name.
        """
        name = name or next(iter(self.shapes))
        theirs, ours = self.shapes[name]
        return (
            f"{prefix}{name} is {theirs} there and {ours} in the model "
            f"(tensors that differ: {len(self.shapes)})"
        )

    def require_finite(
        self,
        key: str,
        path: str,
        fix: str = "take an earlier checkpoint: that training diverged",
        ignore: Collection[str] = (),
    ) -> None:
        """Raise UserError where a weight that is to be loaded is NaN or infinite.

        Args:
            key, path, fix: of the error.
            ignore: names that are not loaded.
        """
        if names := [name for name in self.not_finite if name not in ignore]:
            expected = f"finite weights; NaN or infinity in {shorten(names, 3)}"
            raise UserError(key, path, expected=expected, fix=fix)


def compare(model_state: Mapping[str, Tensor], file_state: Mapping[str, Tensor]) -> Match:
    """Compare names, shapes and values of a file's tensors with what a model has."""
    matched = [name for name in model_state if name in file_state]
    shapes = {name: (file_state[name].shape, model_state[name].shape) for name in matched}
    return Match(
        matched=tuple(matched),
        missing=tuple(
            name for name in model_state if name not in file_state and not name.endswith(_OPTIONAL)
        ),
        unexpected=tuple(name for name in file_state if name not in model_state),
        shapes={
            n: (tuple(file), tuple(model)) for n, (file, model) in shapes.items() if file != model
        },
        not_finite=tuple(name for name in matched if not torch.isfinite(file_state[name]).all()),
    )
