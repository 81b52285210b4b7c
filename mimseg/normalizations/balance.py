"""Builds rotations that give every dimension the same variance."""

from __future__ import annotations

import torch
from torch import Tensor


def balancing_rotation(variances: Tensor) -> Tensor:
    """An orthogonal (D, D) whose rows mix uncorrelated variables into ones of equal variance.

    A Hadamard matrix over sqrt(D) does so for any variances, since all its entries are equally
    large (PHI-S, arXiv 2410.01680). One is made where D = 2^k, or D = 2^k (q + 1) with a prime
    q = 3 mod 4 (384, 768, 1152, 1280, 1408 and 1664 among them). For other widths we rotate pairs
    instead, which is our choice: exact too, but fitted to these variances.

    Args:
        variances: (D,), at least 0.
    """
    built = hadamard(variances.numel())
    if built is None:
        return _pairwise(variances)
    return built.to(variances) / variances.numel() ** 0.5


def hadamard(size: int) -> Tensor | None:
    """A Hadamard matrix by Sylvester's doubling of 1 or of a Paley matrix, or None."""
    doublings = (size & -size).bit_length() - 1
    for times in range(doublings, -1, -1):
        base = size >> times
        if base == 1:
            built = torch.ones(1, 1)
        elif base % 4 == 0 and _is_prime(base - 1):
            built = _paley(base - 1)
        else:
            continue
        for _ in range(times):
            built = torch.kron(torch.tensor([[1.0, 1.0], [1.0, -1.0]]), built)
        return built
    return None


def _paley(q: int) -> Tensor:
    """Paley's first construction of order q + 1, for a prime q = 3 mod 4."""
    character = -torch.ones(q)
    character[torch.arange(1, q).square() % q] = 1
    character[0] = 0
    index = torch.arange(q)
    built = torch.ones(q + 1, q + 1)
    built[1:, 0] = -1
    built[1:, 1:] = character[(index[:, None] - index) % q]
    built.diagonal()[1:] += 1
    return built


def _is_prime(number: int) -> bool:
    return number > 1 and all(number % d for d in range(2, int(number**0.5) + 1))


def _pairwise(variances: Tensor) -> Tensor:
    """Turn the largest and the smallest variance into their mean and the rest, D - 1 times.

    Each turn leaves one dimension at the mean. The dimensions still to do are combinations of
    disjoint variables, so they stay uncorrelated and two variances are all that a turn needs.
    """
    size, device = variances.numel(), variances.device
    left = variances.tolist()
    mean = sum(left) / size
    rotation = torch.eye(size, dtype=variances.dtype)
    todo = set(range(size))
    while len(todo) > 1:
        high, low = max(todo, key=left.__getitem__), min(todo, key=left.__getitem__)
        if left[high] <= mean or left[low] >= mean:  # equal up to rounding
            break
        cos2 = (mean - left[low]) / (left[high] - left[low])
        cos, sin = cos2**0.5, (1 - cos2) ** 0.5
        first, second = rotation[high].clone(), rotation[low].clone()
        rotation[high] = cos * first + sin * second
        rotation[low] = cos * second - sin * first
        left[low] = left[high] + left[low] - mean
        todo.remove(high)
    return rotation.to(device)
