"""Normalizations that remember statistics of the training batches."""

from __future__ import annotations

from collections.abc import Sequence

from mimseg.normalizations.base import Normalization


class StatefulNormalization(Normalization):
    """Base of the normalizations with statistics in buffers.

    The width of the targets is not known when a normalization is made: the algorithm tells it by
    `bind`. Used alone, a normalization takes the width of its first batch, or of a checkpoint.

    In training mode every `forward` counts as one step.

    Args:
        layers: the teacher's blocks that make up the target.
    """

    def __init__(self, layers: Sequence[int] = (-1,)) -> None:
        super().__init__(layers)

    def _load_from_state_dict(self, state: dict, prefix: str, *args: object) -> None:
        for name, buffer in self.named_buffers(recurse=False):
            saved = state.get(prefix + name)
            if saved is not None and not buffer.numel() and saved.numel():
                setattr(self, name, buffer.new_zeros(saved.shape))
        super()._load_from_state_dict(state, prefix, *args)
