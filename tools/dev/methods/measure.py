"""Measures a trained method on images that it has not seen."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from dev.methods.constants import best_constant, comparable, mean_target, variation

Batch = dict[str, Tensor]


@torch.no_grad()
def measure(model: nn.Module, batches: Iterable[dict]) -> dict[str, Any]:
    """The loss on held-out batches beside what constant predictions would cost there.

    The constants are chosen with these batches' own targets in hand, so they are the best there
    can be. Masks are drawn as in training; nothing else is random, for the model is in eval mode.

    Args:
        model: a `mimseg.MaskedImageModeling`.
        batches: as a data loader gives them.

    Returns:
        `loss`, `mean_target` and `best_constant`, weighted as in training; `variation`, that of the
        predictions over tokens as a share of the targets'; `objectives`, the same for each.
    """
    model.eval()
    seen: dict[str, list[tuple[Tensor, Tensor, Tensor]]] = {n: [] for n in model.objectives}
    for batch in batches:
        inputs = model.data_preprocessor(batch, False)["inputs"]
        student, teachers = model._run(inputs)
        for name, objective in model.objectives.items():
            positions = objective.positions(student)
            prediction = objective.head(student, positions)
            target = objective.target(student, teachers[objective.teacher], positions)
            seen[name].append((prediction, target, positions // (1 + student.length)))
    parts = {name: _objective(model.objectives[name], found) for name, found in seen.items()}
    weights = {name: model.objectives[name].weight for name in parts}
    total = {
        key: sum(weights[name] * part[key] for name, part in parts.items())
        for key in ("loss", "mean_target", "best_constant")
    }
    # several targets: the one that varies least over tokens speaks for the method
    total["variation"] = min((part["variation"] for part in parts.values()), default=0.0)
    return {**_rounded(total), "objectives": {n: _rounded(part) for n, part in parts.items()}}


def _objective(objective: nn.Module, seen: list[tuple[Tensor, Tensor, Tensor]]) -> dict[str, float]:
    loss = objective.criterion
    classes = seen[0][0].shape[-1]
    targets = torch.cat([target for _, target, _ in seen])
    found = {"loss": _mean(loss(prediction, target) for prediction, target, _ in seen)}
    for key, choose in (("mean_target", mean_target), ("best_constant", best_constant)):
        constant = choose(loss, targets, classes)
        found[key] = _mean(
            loss(constant.expand_as(prediction), target) for prediction, target, _ in seen
        )
    spread, total = 0.0, 0.0
    for prediction, target, rows in seen:
        ours, theirs = comparable(loss, prediction, target, classes)
        spread, total = spread + variation(ours, rows), total + variation(theirs, rows)
    return {**found, "variation": spread / total if total else 0.0}


def _mean(values: Iterable[Tensor]) -> float:
    return float(torch.cat(list(values)).mean())


def _rounded(values: dict[str, float]) -> dict[str, float | None]:
    """Six digits; None for what is no number, which JSON does not know."""
    return {k: float(f"{v:.6g}") if math.isfinite(v) else None for k, v in values.items()}
