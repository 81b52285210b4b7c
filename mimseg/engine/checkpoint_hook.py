"""Saves checkpoints so that a kill at any moment leaves a whole one; stops a run on a signal."""

from __future__ import annotations

import logging
import os
import shutil
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import ClassVar

from mmengine.dist import barrier, get_world_size, is_main_process
from mmengine.fileio import LocalBackend, register_backend
from mmengine.hooks import CheckpointHook as MMEngineCheckpointHook
from mmengine.logging import print_log

from mimseg.checkpoints.checksum import remove_orphans, sealed, shards_of, sidecar
from mimseg.checkpoints.shards import Shards, folder_for, folders_of, remove_unused
from mimseg.engine.signals import RESUMABLE, Agreement, StopRequest
from mimseg.errors import EndOfRun, UserError, require_positive
from mimseg.files import replacing, saving, write_json
from mimseg.registry import HOOKS

INTERIM = "step_{}.pth"
DONE = "done.json"  # in the work dir of a run that is finished
STOPPED = "stopped.json"  # in the work dir of a run that a signal stopped


@HOOKS.register_module()
class CheckpointHook(MMEngineCheckpointHook):
    """mmengine's CheckpointHook, with every step of saving in an order that loses nothing.

    A checkpoint is written under a temporary name in its own folder, flushed to the disk, given a
    checksum (`mimseg.checkpoints.checksum`) and renamed; `last_checkpoint` is replaced the same
    way; only then are outdated checkpoints removed. (mmengine removes first, so that a run killed
    while it writes may lose all it had.) Temporary files that a killed run left behind go at the
    start of training and at the next save.

    Between those, an interim checkpoint `step_<iteration>.pth` is saved by the clock, before a
    validation, and on a signal, always after an optimizer step. There is one at most: it goes when
    a newer checkpoint of either kind is in place.

    The files are mmengine's in name and content. On storage other than a local folder mmengine's
    own order holds, without interim checkpoints.

    With `asynchronous` a step waits only until the checkpoint is a copy in the host's memory. The
    rest, in the same order, is done by a thread while the training goes on. The next save, a stop
    on a signal and the end of the training wait for it.

    Args:
        max_keep_ckpts: how many checkpoints to keep; -1 for all. There is one more for the moment
            between writing and removing.
        save_minutes: save when this long has passed since the last checkpoint; None for never.
        asynchronous: write to the disk while the training goes on.
        kwargs: as for mmengine's hook.

    Raises:
        UserError: the folder cannot be written (known before training) or the disk is full, which
            is known at the next save where it is asynchronous. The checkpoints before it are still
            there then.
        EndOfRun: a signal asked for it (`mimseg.engine.signals`); the checkpoint is in place.
    """

    def __init__(
        self,
        *args,
        max_keep_ckpts: int = 2,
        save_minutes: float | None = 15,
        asynchronous: bool = False,
        **kwargs,
    ) -> None:
        super().__init__(*args, max_keep_ckpts=max_keep_ckpts, **kwargs)
        if save_minutes is not None:
            require_positive("CheckpointHook.save_minutes", save_minutes, "None for never")
        self.save_minutes = save_minutes
        self.stop, self._agreement = StopRequest(), Agreement()
        self._saved_iter: int | None = None
        self._thread = ThreadPoolExecutor(1, "checkpoint") if asynchronous else None
        self._jobs: list[Future] = []

    def before_train(self, runner) -> None:
        """Find the folder, see that it can be written, and clear what a killed run left."""
        super().before_train(runner)
        if not self._is_local():
            return
        if is_main_process():
            folder = Path(self.out_dir)
            with _report_unwritable(folder):
                folder.mkdir(parents=True, exist_ok=True)
                remove_leftovers(folder)
                probe = saving(folder / "probe")
                probe.touch()
                probe.unlink()
        if self.save_best and len(self.key_indicators) == 1:
            self.best_ckpt_path = self._rehome(self.best_ckpt_path)
        elif self.save_best:
            paths = self.best_ckpt_path_dict
            paths.update({key: self._rehome(path) for key, path in paths.items()})
        self._saved_iter, self._saved_at = runner.iter, time.monotonic()
        self.stop.install()

    def after_train(self, runner) -> None:
        """Wait for the last checkpoint, give the signals back, and publish as mmengine does."""
        self._wait()
        barrier()  # a stage that follows reads it on all ranks
        self.stop.remove()
        super().after_train(runner)

    def close(self) -> None:
        """End after an error in the training: it is the one to report, whatever comes of a save."""
        self.stop.remove()
        wait(self._jobs)

    def after_train_iter(self, runner, *args, **kwargs) -> None:
        """Save by iterations, by the clock and on a signal; then stop where one came."""
        super().after_train_iter(runner, *args, **kwargs)
        due = self.save_minutes is not None and (
            time.monotonic() - self._saved_at > 60 * self.save_minutes
        )
        stop, due = self._agreement.exchange(self.stop.name is not None, due)
        # gradients that are still to be added to are not in a checkpoint's weights
        if (stop or due) and self._is_local() and _between_steps(runner):
            done = runner.iter + 1
            if done != self._saved_iter:
                self._save_interim(runner, done)
            if stop:
                self._stop(runner, done)

    def before_validation(self, runner) -> None:
        """Save what a failing validation, or a kill during one, would lose."""
        if self._is_local() and runner.iter != self._saved_iter and _between_steps(runner):
            self._save_interim(runner, runner.iter)

    def after_val_iter(self, runner, *args, **kwargs) -> None:
        """Stop on a signal during a validation, which is repeated when the run is resumed."""
        # in a group, ranks may have different numbers of batches left
        if self.stop.name and get_world_size() == 1 and runner.iter == self._saved_iter:
            self._stop(runner, runner.iter)

    def _stop(self, runner, done: int) -> None:
        self._wait()
        name = self.stop.name or "a signal to another process"
        if is_main_process():
            record = dict(code=RESUMABLE, signal=name, step=done, steps=runner.max_iters)
            write_json(Path(runner.work_dir) / STOPPED, record)
        barrier()  # a launcher ends all processes with the first one
        self.stop.remove()
        message = f"stopped after step {done} of {runner.max_iters} on {name}"
        raise EndOfRun(f"{message}; the same command with --resume continues", RESUMABLE)

    def _save_interim(self, runner, done: int) -> None:
        """Save `step_<done>.pth`."""
        meta = dict(iter=done, epoch=runner.epoch)
        self._save_checkpoint_as(runner, INTERIM.format(done), meta, by_epoch=False)

    def _is_local(self) -> bool:
        return isinstance(self.file_backend, LocalBackend)

    def _rehome(self, path: str | None) -> str | None:
        """A path recorded before a work dir was moved or copied, in the present folder."""
        return path and os.path.join(self.out_dir, os.path.basename(path))

    def _save_checkpoint_with_step(self, runner, step: int, meta: dict) -> None:
        if not self._is_local():
            super()._save_checkpoint_with_step(runner, step, meta)
            return
        hub = runner.message_hub
        name = self.filename_tmpl.format(step)
        outdated = []
        if self.max_keep_ckpts > 0:
            # The file lists the ones about to go as well: a run killed before it removed them
            # removes them when it resumes.
            ids = [i for i in self.keep_ckpt_ids if i != step] + [step]
            hub.update_info("keep_ckpt_ids", ids)
            outdated = [self.filename_tmpl.format(old) for old in ids[: -self.max_keep_ckpts]]
        self._save_checkpoint_as(runner, name, meta, self.by_epoch, outdated)
        if self.max_keep_ckpts > 0:
            self.keep_ckpt_ids = deque(ids[len(outdated) :], self.max_keep_ckpts)
            hub.update_info("keep_ckpt_ids", list(self.keep_ckpt_ids))

    def _save_checkpoint_as(
        self, runner, name: str, meta: dict, by_epoch: bool, outdated: Sequence[str] = ()
    ) -> None:
        """Write a checkpoint to resume from, then the pointer; then remove outdated ones."""
        hub, previous = runner.message_hub, self.last_ckpt
        self.last_ckpt = os.path.join(self.out_dir, name)
        hub.update_info("last_ckpt", self.last_ckpt)
        done = meta["iter"]  # the runner completes the dict
        try:
            self._save_atomically(
                runner,
                name,
                lambda: self._succeed(Path(runner.work_dir), name, outdated),
                save_optimizer=self.save_optimizer,
                save_param_scheduler=self.save_param_scheduler,
                meta=meta,
                by_epoch=by_epoch,
                **self.args,
            )
        except BaseException:
            self.last_ckpt = previous
            raise
        self._saved_iter, self._saved_at = done, time.monotonic()
        self._agreement.forget()

    def _succeed(self, work_dir: Path, name: str, outdated: Sequence[str]) -> None:
        """Let the newest checkpoint take the place of those before it; on the first rank."""
        last = work_dir / "last_checkpoint"
        with _report_unwritable(last), replacing(last, saving(last)) as temporary:
            temporary.write_text(os.path.join(self.out_dir, name), encoding="utf-8")
        interim = (path.name for path in Path(self.out_dir).glob(INTERIM.format("*")))
        for old in (*interim, *outdated):
            if old != name:
                self._remove(old)

    def _save_best_checkpoint(self, runner, metrics: dict) -> None:
        if not self.save_best or not self._is_local():
            super()._save_best_checkpoint(runner, metrics)
            return
        if "auto" in self.key_indicators:
            self._init_rule(self.rules, [next(iter(metrics))])
        unit, count = ("epoch", runner.epoch) if self.by_epoch else ("iter", runner.iter)
        hub, single = runner.message_hub, len(self.key_indicators) == 1
        meta = {"epoch": runner.epoch, "iter": runner.iter}
        saved, replaced = [], []
        for key, rule in zip(self.key_indicators, self.rules, strict=True):
            if key not in metrics:
                names = ", ".join(metrics)
                raise UserError(
                    "CheckpointHook.save_best", key, expected=f"one of the metrics: {names}"
                )
            suffix = "" if single else f"_{key}"
            best = hub.runtime_info.get(f"best_score{suffix}", self.init_value_map[rule])
            if metrics[key] is None or not self.is_better_than[key](metrics[key], best):
                continue
            name = f"best_{key}_{self.filename_tmpl.format(count)}".replace("/", "_")
            path = os.path.join(self.out_dir, name)
            replaced.append(self.best_ckpt_path if single else self.best_ckpt_path_dict[key])
            saved.append(path)
            if single:
                self.best_ckpt_path = path
            else:
                self.best_ckpt_path_dict[key] = path
            hub.update_info(f"best_score{suffix}", metrics[key])
            hub.update_info(f"best_ckpt{suffix}", path)
            self._save_atomically(
                runner,
                name,
                save_optimizer=False,
                save_param_scheduler=False,
                meta=dict(meta),
                by_epoch=False,
            )
            runner.logger.info(f"best {key} {metrics[key]:0.4f} at {unit} {count}: saved {name}")
        if saved and self.last_ckpt is not None:
            # the newest checkpoint must know of the best one, or a resumed run cannot replace it
            self._save_checkpoint_with_step(runner, count, {**meta, "validated": True})
        for path in replaced:
            if path and path not in saved and is_main_process():
                self._do(partial(self._remove, os.path.basename(path)))

    def _save_atomically(
        self, runner, name: str, succeed: Callable[[], None] | None = None, **options
    ) -> None:
        """Let the runner make a checkpoint, and write it; all ranks take part.

        Args:
            succeed: is called on the first rank when the checkpoint is in place.
        """
        self._wait()
        if in_shards := getattr(runner, "in_shards", False):
            barrier()  # the first rank is done with the checkpoint before, too
        folder, final = Path(self.out_dir), Path(self.out_dir) / name
        with _report_unwritable(final):
            if is_main_process():
                remove_leftovers(folder)
            shards = None
            if in_shards:
                shards = options["shards"] = Shards(folder_for(final), options["save_optimizer"])
            temporary, backend = saving(final), {"backend": _Held.name}
            runner.save_checkpoint(self.out_dir, temporary.name, backend_args=backend, **options)
            arrive = shards.write(self._thread is not None) if shards else None
            content = _Held.take(temporary)
            self._do(partial(self._write, final, content, shards, arrive, succeed))
            if self._thread is None:
                barrier()

    def _write(
        self,
        final: Path,
        content: bytes | None,
        shards: Shards | None,
        arrive: Callable[[], object] | None,
        succeed: Callable[[], None] | None,
    ) -> None:
        """Put a checkpoint in its place, on the first rank, when the parts of all are there."""
        temporary = saving(final)
        with _report_unwritable(final):
            if arrive:
                arrive()
            if not is_main_process():
                return
            before = folders_of(final)
            folder = shards.move() if shards else None
            with sealed(final, temporary, folder):
                if content is not None:
                    LocalBackend().put(content, temporary)
                elif final.is_dir():  # deepspeed's strategy writes folders itself
                    shutil.rmtree(final)
            for old in before:
                shutil.rmtree(old)
            if succeed:
                succeed()

    def _do(self, job: Callable[[], None]) -> None:
        """Do it now, or in the thread after what waits there."""
        if self._thread is None:
            job()
        else:
            self._jobs.append(self._thread.submit(job))

    def _wait(self) -> None:
        """Wait for what the thread has to do; raises what went wrong there."""
        jobs, self._jobs = self._jobs, []
        for job in jobs:
            job.result()

    def _remove(self, name: str) -> None:
        """Remove an outdated checkpoint; one that cannot be removed never stops a run."""
        path = Path(self.out_dir) / name
        if path.is_dir():  # deepspeed's are folders
            shutil.rmtree(path, ignore_errors=True)
            return
        try:
            path.unlink(missing_ok=True)
            sidecar(path).unlink(missing_ok=True)
            for folder in folders_of(path):
                shutil.rmtree(folder)
        except OSError as error:
            print_log(f"{path} could not be removed: {error}", "current", logging.WARNING)


class _Held(LocalBackend):
    """Keeps what is written to it, for a thread to write."""

    name = "mimseg.held"
    _content: ClassVar[dict[str, bytes]] = {}

    def put(self, obj: bytes, filepath: str | Path) -> None:
        self._content[str(filepath)] = obj

    @classmethod
    def take(cls, path: Path) -> bytes | None:
        return cls._content.pop(str(path), None)


register_backend(_Held.name, _Held, force=True)


def _between_steps(runner) -> bool:
    """Whether no gradients are accumulated that the optimizer has yet to use."""
    should_update = getattr(runner.optim_wrapper, "should_update", None)
    return should_update is None or should_update()


def remove_leftovers(folder: Path) -> None:
    """Remove temporary files, and checksums without a file, that a killed run left in a folder."""
    names = ("*.saving", *(f"{name}.*.tmp" for name in (DONE, STOPPED, "last_checkpoint")))
    for path in [path for name in names for path in folder.glob(f".{name}")]:
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    remove_orphans(folder)
    remove_unused(folder, shards_of)


@contextmanager
def _report_unwritable(path: Path) -> Iterator[None]:
    """Within the block, turn the system's errors into one that names the path."""
    try:
        yield
    except OSError as error:
        raise UserError(
            "work_dir",
            str(path),
            expected=f"a place that can be written ({error.strerror or error})",
            fix="free some space or choose another --work-dir; earlier checkpoints are untouched",
        ) from error
