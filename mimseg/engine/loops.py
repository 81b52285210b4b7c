"""Runs a training by epochs or by iterations, from any iteration onwards."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from mmengine.dist import broadcast, get_rank, get_world_size
from mmengine.runner import EpochBasedTrainLoop, IterBasedTrainLoop, Runner
from torch.utils.data import DataLoader

from mimseg.data.order import Batches, place_samples
from mimseg.randomness import seed_all


class _Steps:
    """What both loops share: placed samples, and a step that draws from its own place.

    Attributes:
        to_validate: whether the checkpoint that a run resumes from is yet to be validated.
    """

    to_validate = False

    def __init__(self, runner: Runner, dataloader: DataLoader | dict, **options: Any) -> None:
        loader = dataloader
        if not isinstance(loader, DataLoader):
            loader = runner.build_dataloader(loader, runner.base_seed)
            loader = place_samples(loader, runner.base_seed, get_rank(), get_world_size())
        super().__init__(runner, loader, **options)

    def run_iter(self, *batch: Any) -> None:
        self._seed()
        super().run_iter(*batch)

    def _seed(self) -> None:
        seed_all(self.runner.base_seed, self.runner.rank_seed, self._iter)

    def _pass(self, first: int, skip: int) -> Iterator[Any]:
        """One pass over the data, which leaves out its first `skip` batches."""
        batches = self.dataloader.batch_sampler
        if isinstance(batches, Batches):
            batches.start(first, skip)
            yield from self.dataloader
        else:  # a user's own loader, or a stream: it can only be read again
            for index, batch in enumerate(self.dataloader):
                if index >= skip:
                    yield batch

    def _done(self) -> tuple[int, int]:
        """What is done, in the unit of the validations' interval, and how much there is."""
        raise NotImplementedError

    def _validate(self) -> None:
        """Validate, where a validation is due after the present iteration."""
        done, total = self._done()
        due = done >= self.val_begin and (done % self.val_interval == 0 or done == total)
        if self.runner.val_loop is not None and due:
            self.runner.call_hook("before_validation")
            # batch norms keep statistics by rank: all validate with those that the first one saves
            for buffer in self.runner.model.buffers() if get_world_size() > 1 else ():
                broadcast(buffer)
            self._seed()
            self.runner.val_loop.run()

    def _validate_resumed(self) -> None:
        """Make up for the validation that the interrupted run may not have come to.

        The last one is repeated in any case: its metrics are in the run's record alone.
        """
        done, total = self._done()
        if self._iter > 0 and (self.to_validate or done == total):
            self._decide_current_val_interval()
            self._validate()


class EpochLoop(_Steps, EpochBasedTrainLoop):
    """mmengine's loop by epochs, which a resumed run enters in the middle of an epoch."""

    def run(self) -> Any:
        self.runner.call_hook("before_train")
        if self._iter == self._epoch * len(self.dataloader):
            self._validate_resumed()
        while self._epoch < self._max_epochs and not self.stop_training:
            self.run_epoch()
            self._decide_current_val_interval()
            self._validate()
        self.runner.call_hook("after_train")
        return self.runner.model

    def run_epoch(self) -> None:
        self.runner.call_hook("before_train_epoch")
        self.runner.model.train()
        skip = self._iter - self._epoch * len(self.dataloader)
        for index, batch in enumerate(self._pass(self._iter, skip), skip):
            self.run_iter(index, batch)
        self.runner.call_hook("after_train_epoch")
        self._epoch += 1

    def _done(self) -> tuple[int, int]:
        return self._epoch, self._max_epochs


class IterLoop(_Steps, IterBasedTrainLoop):
    """mmengine's loop by iterations; the data's order is resumed without reading them again."""

    def run(self) -> Any:
        self.runner.call_hook("before_train")
        self.runner.call_hook("before_train_epoch")
        self._validate_resumed()
        self.dataloader_iterator = self._batches()
        while self._iter < self._max_iters and not self.stop_training:
            self.runner.model.train()
            self.run_iter(next(self.dataloader_iterator))
            self._decide_current_val_interval()
            self._validate()
        self.runner.call_hook("after_train_epoch")
        self.runner.call_hook("after_train")
        return self.runner.model

    def _batches(self) -> Iterator[Any]:
        """Batches without end; where the sampler ends, the next pass begins in another order."""
        skip = 0 if self.fast_forward_on_resume else self._iter
        passes = 0
        while True:
            sampler = getattr(self.dataloader.batch_sampler, "sampler", None)
            if hasattr(sampler, "set_epoch"):
                sampler.set_epoch(passes)
            count = 0
            for batch in self._pass(self._iter, skip):
                count += 1
                yield batch
            skipped = getattr(self.dataloader.batch_sampler, "skipped", skip)
            if not count and not skipped:
                return
            skip, passes = skip - skipped, passes + 1

    def _done(self) -> tuple[int, int]:
        return self._iter, self._max_iters
