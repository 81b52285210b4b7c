"""One value a position."""

from __future__ import annotations

from torch import Tensor


def per_position(values: Tensor) -> Tensor:
    """Average (N, ...) over all but the first axis, in float32."""
    return values.float().flatten(1).mean(1)
