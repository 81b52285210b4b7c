"""Says on the console how a run goes; everything else is in its log file."""

from __future__ import annotations

import logging
import math
import time
import warnings
from collections.abc import Mapping
from types import ModuleType

import torch
from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.logging import MMLogger
from mmengine.logging import logger as mmengine_logger
from mmengine.runner import EpochBasedTrainLoop, Runner

from mimseg.compat.import_hooks import when_imported
from mimseg.engine.scale_lr import short
from mimseg.progress import clock

# libraries tell of their own ways, of which a user can change nothing
_NOISE = (
    "will be deprecated in future",
    "The prefix is not set in metric class",
    "Since `metrics` is an empty dict",
    "Could not import OneDL",
)
# shown whether or not something was left over
_LOADED = ("backbone loaded from", "model loaded from", "teacher ")
_MAIN = ("mIoU", "mAcc", "aAcc", "bbox_mAP", "segm_mAP", "accuracy/top1", "accuracy/top5")

_verbose = False


def set_up(verbose: bool = False) -> None:
    """Prepare the console of a command.

    Args:
        verbose: show all that log files hold, and what libraries print and warn of.
    """
    global _verbose
    _verbose = verbose
    if not verbose:
        warnings.filterwarnings("ignore", module=r"mm(cv|det|engine|pretrain|seg)\b")
        mmengine_logger.print = _print_unless_noise
        for module in ("pycocotools.coco", "pycocotools.cocoeval"):
            when_imported(module, f"{__name__}:log_prints")


def log_prints(module: ModuleType) -> None:
    """Write what a module prints to the current log instead."""
    module.print = lambda *words, **_: MMLogger.get_current_instance().info(
        " ".join(map(str, words))
    )


def _print_unless_noise(text: object, **options: object) -> None:
    if not str(text).startswith(_NOISE):
        print(text, **options)


def say(text: str, logger: MMLogger | None = None) -> None:
    """Print a line on the first rank, and write it to a run's log file."""
    if is_main_process():
        print(text, flush=True)
    if logger is not None:
        logger.info(text, extra={"said": True})


def hush(logger: MMLogger) -> None:
    """Let a run's logger show warnings alone on the console, unless `set_up` says otherwise.

    Its log file is not touched.
    """
    for handler in logger.handlers:
        if not isinstance(handler, logging.FileHandler):
            handler.addFilter(_shown)
            if not _verbose:
                handler.setFormatter(_Plain())


def _shown(record: logging.LogRecord) -> bool:
    if getattr(record, "said", False):
        return False
    if _verbose:
        return True
    text = str(record.msg)
    if any(noise in text for noise in _NOISE):
        return False
    return record.levelno >= logging.WARNING or text.startswith(_LOADED)


class _Plain(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        text = record.getMessage()
        return text if text.startswith(_LOADED) else f"{record.levelname.lower()}: {text}"


class ConsoleHook(Hook):
    """A line after the first step, then by time: every 10 s at first, every 60 s in long runs.

    Lines are plain text, on a terminal as in a file. Losses are means since the last line; the
    time that is left counts validations and checkpoints in as they come.

    Args:
        images: images per training iteration, of all processes.
    """

    priority = "VERY_LOW"  # after the hooks that measure

    def __init__(self, images: int = 0) -> None:
        self.images = images
        self.loss: float | None = None  # the mean of the last 50 steps

    def before_train(self, runner: Runner) -> None:
        self._first = self._last = runner.iter
        self._start = self._due = time.monotonic()

    def after_train_iter(self, runner: Runner, batch_idx: int, *_: object, **__: object) -> None:
        done, total, now = runner.iter + 1, runner.max_iters, time.monotonic()
        if now < self._due and done < total:
            return
        count = done - self._last
        parts = [f"step {done:>{len(str(total))}}/{total}", f"{100 * done // total:3d}%"]
        if isinstance(runner.train_loop, EpochBasedTrainLoop):
            parts.append(f"epoch {runner.epoch + 1}/{runner.max_epochs}")
        parts += [self._losses(runner, count), f"lr {short(learning_rate(runner))}"]
        parts += self._speed(runner, done, count, now)
        if torch.cuda.is_available():
            parts.append(f"{torch.cuda.max_memory_allocated() / 2**30:.1f} GiB")
        say("  ".join(parts))
        if done - self._first == 1:
            self._start = now  # the loaders' start is no measure of what follows
        self._last, self._due = done, now + min(60.0, max(10.0, (now - self._start) / 5))

    def after_train(self, runner: Runner) -> None:
        # also of a resumed run that has no step left to do
        self.loss = _mean(runner, "train/loss", 50)

    def _speed(self, runner: Runner, done: int, count: int, now: float) -> list[str]:
        step, wait = (_mean(runner, f"train/{name}", count) for name in ("time", "data_time"))
        left = runner.max_iters - done
        if done - self._first == 1:
            step = max(step - wait, 1e-9)  # the first batch waits for the loaders to start
            return [f"{step:.2f} s per step", f"about {clock(step * left)} in all"]
        parts = [f"{self.images / step:.3g} images/s"]
        if wait > 0.1 * step:
            parts.append(f"data wait {100 * wait / step:.0f}%")
        if left:
            parts.append(f"{clock((now - self._start) / (done - self._first - 1) * left)} left")
        return parts

    def _losses(self, runner: Runner, count: int) -> str:
        names = [n for n in runner.message_hub.log_scalars if n.startswith("train/")]
        names = [n for n in names if "loss" in n and n != "train/loss"]
        text = f"loss {_mean(runner, 'train/loss', count):.4f}"
        if 2 <= len(names) <= 4:
            values = (f"{n.removeprefix('train/')} {_mean(runner, n, count):.4f}" for n in names)
            text += f" ({', '.join(values)})"
        return text

    def _before_epoch(self, runner: Runner, mode: str = "train") -> None:
        if mode != "train":
            self._began = time.monotonic()
            self._shown = self._began

    def _after_iter(self, runner: Runner, batch_idx: int, mode: str = "train", **_: object) -> None:
        now = time.monotonic()
        if mode == "train" or now < self._shown + 15:
            return
        total = len(runner.val_dataloader if mode == "val" else runner.test_dataloader)
        left = (now - self._began) / (batch_idx + 1) * (total - batch_idx - 1)
        name = "validation" if mode == "val" else "test"
        say(f"{name}: batch {batch_idx + 1}/{total}, {clock(left)} left")
        self._shown = now

    def after_val_epoch(self, runner: Runner, metrics: dict | None = None) -> None:
        text = main_metrics(metrics or {}) or "no metrics, for nothing was predicted"
        say(f"validation: {text}  ({clock(time.monotonic() - self._began)})")


def main_metrics(metrics: Mapping[str, object]) -> str:
    """The metrics that a task is known by, else the first four, in one line."""
    numbers = plain_metrics(metrics)
    main = [k for name in _MAIN for k in numbers if k.removeprefix("coco/") == name]
    return "  ".join(f"{k} {number_text(numbers[k])}" for k in (main or list(numbers))[:4])


def number_text(value: float | None) -> str:
    """A metric for the console."""
    return "not measured" if value is None else f"{value:.4g}"


def plain_metrics(metrics: Mapping[str, object]) -> dict[str, float | None]:
    """Metrics as plain numbers, None where there was nothing to measure; the rest is left out.

    mmseg's means are not numbers where no pixel has a label that counts.
    """
    numbers: dict[str, float | None] = {}
    for key, value in metrics.items():
        try:
            number = float(value)
        except (TypeError, ValueError):
            if value is None:
                numbers[key] = None
            continue
        numbers[key] = number if math.isfinite(number) else None
    return numbers


def unmeasured(metrics: Mapping[str, float | None]) -> dict[str, str]:
    """Why metrics are None, by name; for a record."""
    reason = "nothing to measure: no labeled pixel or object of any class in the data read"
    return {name: reason for name, value in metrics.items() if value is None}


def _mean(runner: Runner, name: str, count: int) -> float:
    """The mean of the last `count` values of a scalar."""
    scalars = runner.message_hub.log_scalars
    return float(scalars[name].mean(count)) if name in scalars else float("nan")


def learning_rate(runner: Runner) -> float:
    """The learning rate before layer decay."""
    scalars = runner.message_hub.log_scalars
    name = "train/base_lr" if "train/base_lr" in scalars else "train/lr"
    return float(scalars[name].current())
