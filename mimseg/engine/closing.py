"""Ends what a finished run leaves alive: loader processes, open files, names, memory."""

from __future__ import annotations

import gc

import torch
from mmengine.runner import Runner


def close(runner: Runner) -> None:
    """End a run's loader processes, close its log files, and let go of what mmengine keeps by name.

    Its metrics and its record are read by now: the runner is of no use afterwards. Its memory comes
    free when its last reference goes; see `free_memory`.
    """
    for loop in (runner._train_loop, runner._val_loop, runner._test_loop):
        batches = getattr(loop, "dataloader_iterator", None)
        if hasattr(batches, "close"):  # a generator, in which a loader's iterator waits
            batches.close()
        end_workers(getattr(loop, "dataloader", None))
    runner.visualizer.close()
    for instance in (runner.message_hub, runner.visualizer, runner.logger):
        for kind in type(instance).__mro__:
            vars(kind).get("_instance_dict", {}).pop(instance.instance_name, None)
    for handler in list(runner.logger.handlers):
        handler.close()
        runner.logger.removeHandler(handler)


def end_workers(loader: object) -> None:
    """End the processes of a loader that keeps them from one pass to the next."""
    if (workers := getattr(loader, "_iterator", None)) is not None:
        workers._shutdown_workers()
        loader._iterator = None


def free_memory() -> None:
    """Collect what a closed run leaves in cycles, and hand cached device memory back."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
