"""Gives each sample of a training its place in the run, from which its augmentation is drawn.

The order of samples comes from the config's sampler, which is a function of its seed. What a sample
looks like is a function of (seed, iteration, place in the batch of all processes): it does not
depend on the number of loader workers, on what was read before, nor, as long as images per step
stay the same, on the number of processes.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

import torch
from torch.utils.data import DataLoader, IterableDataset

from mimseg.randomness import drawn_from

RECENT = 256  # batches whose samples are remembered: more than loaders read ahead


class Sample(int):
    """An index of a data set with its place: (seed, iteration, place in the global batch)."""

    place: tuple[int, int, int]

    @classmethod
    def at(cls, index: int, *place: int) -> Sample:
        """`index` at a place in the run."""
        sample = cls(index)
        sample.place = place
        return sample


class PlacedDataset:
    """A data set whose random draws for a `Sample` come from that sample's place.

    Everything else, attributes that are set included, is the data set's own.
    """

    def __init__(self, dataset: Any) -> None:
        object.__setattr__(self, "wrapped", dataset)

    def __getitem__(self, index: int) -> Any:
        if not isinstance(index, Sample):
            return self.wrapped[index]
        with drawn_from(*index.place):
            return self.wrapped[index]

    def __len__(self) -> int:
        return len(self.wrapped)

    def __getattr__(self, name: str) -> Any:
        if name == "wrapped":  # while a loader process unpickles it
            raise AttributeError(name)
        return getattr(self.wrapped, name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self.wrapped, name, value)


class Batches:
    """The batches of one process, from any batch of the run onwards.

    Args:
        batches: the batch sampler of this process.
        seed: the run's, the same for all processes.
        rank: of this process.
        processes: how many there are.

    Attributes:
        recent: iteration -> indices, of the last batches that were handed to the loader.
        skipped: how many batches of the present pass were passed over.
    """

    def __init__(self, batches: Any, seed: int, rank: int = 0, processes: int = 1) -> None:
        self.batches, self.seed, self.rank, self.processes = batches, seed, rank, processes
        self.recent: OrderedDict[int, list[int]] = OrderedDict()
        self.start(0)

    @property
    def sampler(self) -> Any:
        """The sampler below, whose epoch mmengine's hook sets."""
        return getattr(self.batches, "sampler", None)

    def start(self, iteration: int, skip: int = 0) -> None:
        """Let the next pass leave out its first `skip` batches and begin at this iteration."""
        self.iteration, self.skip, self.skipped = iteration, skip, 0

    def __iter__(self) -> Iterator[list[Sample]]:
        batches = iter(self.batches)
        self.skipped = sum(1 for _ in islice(batches, self.skip))
        for iteration, batch in enumerate(batches, self.iteration):
            self.recent[iteration] = [int(index) for index in batch]
            if len(self.recent) > RECENT:
                self.recent.popitem(last=False)
            yield place_batch(batch, self.seed, iteration, self.rank, self.processes)

    def __len__(self) -> int:
        return len(self.batches)


def place_batch(
    batch: Sequence[int], seed: int, iteration: int, rank: int, processes: int
) -> list[Sample]:
    """The indices of one process's batch, with their places in the batch of all processes."""
    return [
        Sample.at(index, seed, iteration, place * processes + rank)
        for place, index in enumerate(batch)
    ]


def place_samples(loader: DataLoader, seed: int, rank: int, processes: int) -> DataLoader:
    """A training's loader with `Batches` in it; one of a stream of samples is returned as it is.

    Args:
        loader: as mmengine builds it.
        seed: the run's.
        rank: of this process.
        processes: how many there are.
    """
    if isinstance(loader.dataset, IterableDataset) or loader.batch_sampler is None:
        return loader
    return DataLoader(
        PlacedDataset(loader.dataset),
        batch_sampler=Batches(loader.batch_sampler, seed, rank, processes),
        num_workers=loader.num_workers,
        collate_fn=loader.collate_fn,
        pin_memory=loader.pin_memory,
        timeout=loader.timeout,
        worker_init_fn=loader.worker_init_fn,
        multiprocessing_context=loader.multiprocessing_context,
        generator=torch.Generator(),  # else each pass would draw from the global one
        prefetch_factor=loader.prefetch_factor,
        persistent_workers=loader.persistent_workers,
    )
