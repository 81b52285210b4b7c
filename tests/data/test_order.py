"""A sample's augmentation and the order of samples depend on their place in the run alone."""

import random

import numpy as np
import pytest
import torch
from mmengine.dataset import DefaultSampler, InfiniteSampler
from torch.utils.data import DataLoader, Dataset

from mimseg.data.order import Batches, PlacedDataset, Sample, place_samples
from mimseg.randomness import drawn_from, seed_all


class Draws(Dataset):
    """Samples that show which generators they drew from."""

    pipeline = "first"

    def __len__(self):
        return 20

    def __getitem__(self, index):
        if index == 7:  # as a data set that draws another image for a broken one
            index = np.random.randint(20)
        return float(index), random.random(), float(np.random.rand()), float(torch.rand(()))


def loader(workers=0, batch=4, rank=0, processes=1, sampler=InfiniteSampler, seed=3):
    order = sampler(Draws(), seed=5)
    order.rank, order.world_size = rank, processes
    if sampler is InfiniteSampler:
        order.indices = order._indices_of_rank()
    else:
        order.num_samples = len(order.dataset) // processes
    options = dict(num_workers=workers, persistent_workers=workers > 0)
    return place_samples(
        DataLoader(Draws(), batch, sampler=order, **options), seed, rank, processes
    )


def first(batches, count):
    rows = [torch.stack(batch, 1) for batch, _ in zip(batches, range(count), strict=False)]
    return torch.cat(rows)


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_samples_do_not_depend_on_workers_or_on_where_they_begin(workers):
    whole = first(loader(), 6)
    assert len(whole.unique(dim=0)) == len(whole)  # each sample has draws of its own
    assert torch.equal(first(loader(workers), 6), whole)
    resumed = loader(workers)
    resumed.batch_sampler.start(2, skip=2)
    assert torch.equal(first(resumed, 4), whole[8:])
    assert resumed.batch_sampler.recent[2] == list(resumed.batch_sampler.recent[2])
    assert not torch.equal(first(loader(workers, seed=4), 6), whole)


def test_a_second_epoch_draws_other_augmentations():
    batches = loader(sampler=DefaultSampler)
    epochs = []
    for epoch in range(2):
        batches.batch_sampler.sampler.set_epoch(0)  # even in the same order
        batches.batch_sampler.start(epoch * len(batches))
        epochs.append(first(batches, len(batches)))
    assert (epochs[0][:, 0] == epochs[1][:, 0]).sum() >= 19  # one is drawn again: index 7
    assert (epochs[0][:, 1:] != epochs[1][:, 1:]).all()


@pytest.mark.parametrize("sampler", [InfiniteSampler, DefaultSampler])
def test_two_processes_read_what_one_reads(sampler):
    whole = first(loader(batch=4, sampler=sampler), 5)
    parts = [first(loader(batch=2, rank=r, processes=2, sampler=sampler), 5) for r in (0, 1)]
    together = torch.stack(parts, 1).flatten(0, 1)  # one sample of each rank in turn
    assert torch.equal(together, whole)


def test_the_global_generators_are_left_alone():
    seed_all(1)
    expected = random.random(), np.random.rand(), float(torch.rand(()))
    seed_all(1)
    first(loader(), 3)  # the loader itself would draw a base seed
    assert (random.random(), np.random.rand(), float(torch.rand(()))) == expected


def test_drawn_from_restores_after_an_error():
    seed_all(2)
    state = random.getstate(), torch.get_rng_state()
    with pytest.raises(KeyError), drawn_from(1, 2, 3):
        torch.rand(3)
        raise KeyError
    assert random.getstate() == state[0] and torch.equal(torch.get_rng_state(), state[1])


def test_the_data_set_shows_and_takes_attributes():
    dataset = Draws()
    placed = PlacedDataset(dataset)
    placed.pipeline = "second"  # mmengine's PipelineSwitchHook
    assert dataset.pipeline == placed.pipeline == "second" and len(placed) == 20
    sample = Sample.at(3, 0, 1, 2)
    assert placed[sample] == placed[sample] != placed[Sample.at(3, 0, 2, 2)]


def test_batches_count_what_they_pass_over():
    batches = Batches([[0, 1], [2, 3], [4]], seed=0)
    batches.start(5, skip=2)
    assert [[(int(s), s.place) for s in batch] for batch in batches] == [[(4, (0, 5, 0))]]
    assert batches.skipped == 2 and len(batches) == 3
    batches.start(0, skip=9)
    assert list(batches) == [] and batches.skipped == 3
