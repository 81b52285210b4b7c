"""Measures a trained method on images that it has not seen."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

_TINY = 1e-12  # an id that never occurs still has a logarithm


@torch.no_grad()
def measure(model: nn.Module, batches: Iterable[dict]) -> dict[str, Any]:
    """The loss on held-out batches, and what predicting the mean target would cost there.

    The mean is taken over these batches' own targets. Masks are drawn as in training; nothing else
    is random, for the model is in eval mode.

    Args:
        model: a `mimseg.MaskedImageModeling`.
        batches: as a data loader gives them.

    Returns:
        `loss` and `mean_target`, weighted as in training; `objectives`, the same for each.
    """
    model.eval()
    seen: dict[str, list[tuple[Tensor, Tensor]]] = {name: [] for name in model.objectives}
    for batch in batches:
        inputs = model.data_preprocessor(batch, False)["inputs"]
        student, teachers = model._run(inputs)
        for name, objective in model.objectives.items():
            positions = objective.positions(student)
            prediction = objective.head(student, positions)
            target = objective.target(student, teachers[objective.teacher], positions)
            seen[name].append((prediction, target))
    parts = {name: _costs(model.objectives[name].criterion, seen[name]) for name in seen}
    total = {
        key: sum(model.objectives[name].weight * part[key] for name, part in parts.items())
        for key in ("loss", "mean_target")
    }
    return {**_rounded(total), "objectives": {n: _rounded(part) for n, part in parts.items()}}


def mean_target(loss: nn.Module, targets: Tensor, classes: int) -> Tensor:
    """The mean target as one prediction for all positions.

    For cross-entropy these are the logits of the targets' frequencies, for relations those of the
    mean relation. InfoNCE compares with the other targets of the batch: no preference among them.

    Args:
        loss: the loss that the prediction is for.
        targets: (N, ...).
        classes: number of ids; read where the targets are ids.
    """
    for parent in type(loss).__mro__:
        if parent.__name__ in _MEANS:
            return _MEANS[parent.__name__](loss, targets, classes)
    return targets.float().mean(0)


def _frequencies(loss: nn.Module, targets: Tensor, classes: int) -> Tensor:
    if targets.is_floating_point():
        share = targets.float().mean(0)
    else:
        share = torch.bincount(targets.flatten(), minlength=classes).float() / targets.numel()
    return share.clamp_min(_TINY).log() * loss.temperature


def _mean_relation(loss: nn.Module, targets: Tensor, classes: int) -> Tensor:
    return targets.float().softmax(-1).mean(0).clamp_min(_TINY).log()


def _no_preference(loss: nn.Module, targets: Tensor, classes: int) -> Tensor:
    return torch.zeros_like(targets[0], dtype=torch.float32)


_MEANS: dict[str, Callable[[nn.Module, Tensor, int], Tensor]] = {
    "CrossEntropyLoss": _frequencies,
    "RelationKLLoss": _mean_relation,
    "InfoNCELoss": _no_preference,
}


def _costs(loss: nn.Module, seen: list[tuple[Tensor, Tensor]]) -> dict[str, float]:
    targets = torch.cat([target for _, target in seen])
    mean = mean_target(loss, targets, seen[0][0].shape[-1])
    return {
        "loss": _mean(loss(prediction, target) for prediction, target in seen),
        "mean_target": _mean(loss(mean.expand_as(p), target) for p, target in seen),
    }


def _mean(values: Iterable[Tensor]) -> float:
    return float(torch.cat(list(values)).mean())


def _rounded(values: dict[str, float]) -> dict[str, float | None]:
    """Six digits; None for what is not a number, which JSON does not know."""
    return {k: float(f"{v:.6g}") if math.isfinite(v) else None for k, v in values.items()}
