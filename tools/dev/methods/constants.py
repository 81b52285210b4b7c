"""What a prediction that knows nothing of the image would cost, under the same loss.

One prediction for all positions of all images, chosen with the targets in hand:

- errors of values (L2, L1, smooth L1): the mean target of each channel; for the best constant, L1's
  median and smooth L1's point between median and mean;
- cosine: the direction of the mean target; the best one is that of the mean of unit targets;
- cross-entropy: the targets' frequencies, so that the cost is their entropy;
- relations: the mean relation, so that the cost is the mean divergence from it;
- InfoNCE: no preference, so that the cost is the logarithm of the number of candidates.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_STEPS = 50  # of the iteration for smooth L1, which settles in about ten
_TINY = 1e-12  # an id that never occurs still has a logarithm


Slot = Callable[[nn.Module, Tensor, int], Tensor]
"""(loss, predictions or targets (N, ...), classes) -> values; `classes` is read for ids alone."""


@dataclass(frozen=True)
class Kind:
    """What constants and variation mean for a loss.

    Args:
        mean: targets -> the mean target as a prediction, without N.
        best: the same for the best constant; None where that is the mean.
        predicted: predictions as the loss sees them: probabilities, unit vectors, values.
        wanted: targets likewise; None where it is the same function.
    """

    mean: Slot
    best: Slot | None
    predicted: Slot
    wanted: Slot | None = None


def mean_target(loss: nn.Module, targets: Tensor, classes: int) -> Tensor:
    """The mean target as a prediction (...), for targets (N, ...)."""
    return kind_of(loss).mean(loss, targets, classes)


def best_constant(loss: nn.Module, targets: Tensor, classes: int) -> Tensor:
    """The constant prediction (...) that costs least."""
    kind = kind_of(loss)
    return (kind.best or kind.mean)(loss, targets, classes)


def comparable(
    loss: nn.Module, prediction: Tensor, target: Tensor, classes: int
) -> tuple[Tensor, Tensor]:
    """Prediction and target (N, ...) as the loss sees them, on one scale."""
    kind = kind_of(loss)
    wanted = kind.wanted or kind.predicted
    return kind.predicted(loss, prediction, classes), wanted(loss, target, classes)


def kind_of(loss: nn.Module) -> Kind:
    """The loss's kind, by its class or a parent's; errors of values where it is unknown."""
    for parent in type(loss).__mro__:
        if parent.__name__ in KINDS:
            return KINDS[parent.__name__]
    return VALUES


def variation(values: Tensor, rows: Tensor) -> float:
    """Standard deviation over the tokens of an image, of all channels together.

    Where images have one position each (CLS alone), the deviation over the batch.

    Args:
        values: (N, ...).
        rows: the image of each, (N,).
    """
    values = values.float().flatten(1)
    index = rows.unique(return_inverse=True)[1]
    count = int(index.max()) + 1
    if count == len(index):
        index, count = torch.zeros_like(index), 1
    sizes = torch.bincount(index, minlength=count)[:, None]
    means = values.new_zeros(count, values.shape[1]).index_add_(0, index, values) / sizes
    return float((values - means[index]).square().mean().sqrt())


def _mean(loss: nn.Module, targets: Tensor, classes: int) -> Tensor:
    return targets.float().mean(0)


def _median(loss: nn.Module, targets: Tensor, classes: int) -> Tensor:
    return targets.float().median(0).values


def _huber_centre(loss: nn.Module, targets: Tensor, classes: int) -> Tensor:
    """The minimum of the smooth L1 of each channel, by reweighted means."""
    targets = targets.float()
    centre = targets.mean(0)
    for _ in range(_STEPS):
        weight = loss.beta / (targets - centre).abs().clamp_min(loss.beta)
        centre = (weight * targets).sum(0) / weight.sum(0)
    return centre


def _unit(loss: nn.Module, values: Tensor, classes: int) -> Tensor:
    return F.normalize(values.float(), dim=-1)


def _mean_unit(loss: nn.Module, targets: Tensor, classes: int) -> Tensor:
    return _unit(loss, targets, classes).mean(0)


def _frequencies(loss: nn.Module, targets: Tensor, classes: int) -> Tensor:
    """Logits whose softmax, at the loss's temperature, is the targets' mean distribution."""
    if targets.is_floating_point():
        share = targets.float().mean(0)
    else:
        share = torch.bincount(targets.flatten(), minlength=classes).float() / targets.numel()
    return share.clamp_min(_TINY).log() * loss.temperature


def _softmax_at(loss: nn.Module, logits: Tensor, classes: int) -> Tensor:
    """Probabilities (N, D) of logits (N, [K,] D), averaged over K."""
    found = (logits.float() / loss.temperature).softmax(-1)
    return found if found.dim() == 2 else found.mean(1)


def _distributions(loss: nn.Module, targets: Tensor, classes: int) -> Tensor:
    """Distributions (N, D) as they are, ids (N,) as one-hot rows."""
    return targets.float() if targets.is_floating_point() else F.one_hot(targets, classes).float()


def _mean_relation(loss: nn.Module, targets: Tensor, classes: int) -> Tensor:
    return targets.float().softmax(-1).mean(0).clamp_min(_TINY).log()


def _no_preference(loss: nn.Module, targets: Tensor, classes: int) -> Tensor:
    return torch.zeros_like(targets[0], dtype=torch.float32)


def _values(loss: nn.Module, values: Tensor, classes: int) -> Tensor:
    return values.float()


def _softmax(loss: nn.Module, values: Tensor, classes: int) -> Tensor:
    return values.float().softmax(-1)


VALUES = Kind(_mean, None, _values)
KINDS = {
    "L1Loss": Kind(_mean, _median, _values),
    "SmoothL1Loss": Kind(_mean, _huber_centre, _values),
    "CosineLoss": Kind(_mean, _mean_unit, _unit),
    "CrossEntropyLoss": Kind(_frequencies, None, _softmax_at, _distributions),
    "RelationKLLoss": Kind(_mean_relation, None, _softmax),
    "InfoNCELoss": Kind(_no_preference, None, _unit),
}
