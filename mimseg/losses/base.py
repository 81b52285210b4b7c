"""Defines what every loss offers to the algorithm."""

from __future__ import annotations

from torch import Tensor, nn

from mimseg.outputs import Needs


class Loss(nn.Module):
    """Base of the losses.

    A plain nn.Module with the same `forward` serves as a loss too; it declares nothing.

    Attributes:
        needs: what it asks of the teacher, apart from what the target is made of.
        one_mask: whether an image may have one mask only.
    """

    needs = Needs()
    one_mask = False

    def forward(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Predictions and targets at N positions -> one value per position, (N,), float32."""
        raise NotImplementedError


def declarations(loss: nn.Module) -> Loss:
    """The object to read a loss's `needs` and `one_mask` from; the base's for a plain nn.Module."""
    return loss if isinstance(loss, Loss) else Loss()


def per_position(values: Tensor) -> Tensor:
    """Average (N, ...) over all but the first axis, in float32."""
    return values.float().flatten(1).mean(1)
