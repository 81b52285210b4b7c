"""Derives random numbers from where they are used, so that no generator's state has to be kept.

A training step, a sample and a mask each seed the generators from their own place in the run (seed,
iteration, rank or position). A resumed run therefore draws what an unbroken one draws.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch


def mix(*numbers: int) -> int:
    """One well spread 63-bit number from several (splitmix64's finalizer)."""
    mixed = 0
    for number in numbers:
        mixed = (mixed ^ number) + 0x9E3779B97F4A7C15 & (1 << 64) - 1
        mixed = (mixed ^ mixed >> 30) * 0xBF58476D1CE4E5B9 & (1 << 64) - 1
        mixed = (mixed ^ mixed >> 27) * 0x94D049BB133111EB & (1 << 64) - 1
        mixed ^= mixed >> 31
    return mixed >> 1


def seed_all(*place: int) -> None:
    """Seed the generators of Python, NumPy and torch, on all devices, from a place in the run."""
    seed = mix(*place)
    _seed_host(seed)
    torch.manual_seed(seed)


@contextmanager
def drawn_from(*place: int) -> Iterator[None]:
    """Within the block, draw on the CPU from a place in the run; then restore the generators."""
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()
    seed = mix(*place)
    _seed_host(seed)
    torch.default_generator.manual_seed(seed)
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
        torch.set_rng_state(states[2])


def _seed_host(seed: int) -> None:
    random.seed(seed)
    np.random.seed([seed & 0xFFFFFFFF, seed >> 32])
