"""Scales the learning rate to the number of images per step."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from mmengine.config import Config

from mimseg.errors import UserError

# what schedulers take as a rate, not as a share of one
_RATES = ("eta_min", "eta_max", "min_value")


@dataclass(frozen=True)
class LearningRate:
    """The learning rate that a training uses, and the one that its config gives.

    Args:
        value: the rate that is used; None where the config leaves it to the optimizer.
        written: the config's rate.
        images: images per step: processes x batch size x accumulation.
        base: the images per step that `written` is for; None where the config does not say.
    """

    value: float | None
    written: float | None
    images: int
    base: int | None = None

    @property
    def factor(self) -> float:
        """What the config's rates are multiplied by."""
        return self.value / self.written if self.value and self.written else 1.0

    def __str__(self) -> str:
        if self.value is None:
            return "the optimizer's own"
        text = short(self.value)
        if self.base in (None, self.images):
            return text
        if self.value == self.written:
            return (
                f"{text} as written (auto_scale_lr.enable=False): it is for {self.base} images "
                f"per step, and there are {self.images}"
            )
        return (
            f"{text} (the config's {short(self.written)} for {self.base} images per step, "
            f"scaled to {self.images})"
        )


def scale_lr(cfg: Config, processes: int) -> LearningRate:
    """Scale a config's learning rate, in place, to the images per step (arXiv 1706.02677).

    The optimizer's `lr`, and with it the rates that schedulers name (`eta_min`, `eta_max`,
    `min_value`), are multiplied by images per step / `auto_scale_lr.base_batch_size`. Factors,
    ratios and layer decay are relative to `lr` and stay. A config without `base_batch_size`, or
    with `auto_scale_lr.enable=False`, is left alone.

    Afterwards `base_batch_size` is the actual number, so that neither mmengine nor a second call
    scales again.

    Args:
        cfg: a full config; None where `enable` is left out means True.
        processes: how many processes train together.

    Raises:
        UserError: `base_batch_size` is not a whole number above 0.
    """
    optimizer = cfg.optim_wrapper.get("optimizer") or {}
    lr = optimizer.get("lr")
    counts = cfg.optim_wrapper.get("accumulative_counts", 1)
    images = processes * cfg.train_dataloader.get("batch_size", 1) * counts
    scaling = cfg.get("auto_scale_lr") or {}
    base = scaling.get("base_batch_size")
    if base is None or lr is None:
        return LearningRate(lr, lr, images)
    if not isinstance(base, int) or base < 1:
        raise UserError(
            "auto_scale_lr.base_batch_size",
            base,
            expected="the images per step that the learning rate is for, a whole number from 1",
        )
    if scaling.get("enable") is False:
        return LearningRate(lr, lr, images, base)
    cfg.auto_scale_lr = dict(base_batch_size=images)
    if images == base:
        return LearningRate(lr, lr, images, base)
    factor = images / base
    optimizer.lr = lr * factor
    for scheduler in _lr_schedulers(cfg.get("param_scheduler")):
        for key in _RATES:
            if scheduler.get(key):
                scheduler[key] = _scaled(scheduler[key], factor)
    return LearningRate(optimizer.lr, lr, images, base)


def short(rate: float) -> str:
    """A rate in few characters: 1.5e-4."""
    mantissa, exponent = f"{rate:.2e}".split("e")
    return f"{mantissa.rstrip('0').rstrip('.')}e{int(exponent)}"


def _scaled(rate: float | list[float], factor: float) -> float | list[float]:
    return [r * factor for r in rate] if isinstance(rate, (list, tuple)) else rate * factor


def _lr_schedulers(node: object) -> Iterator[dict]:
    """The schedulers of learning rates: one, a list, or lists by the optimizer's name."""
    if isinstance(node, dict) and "type" in node:
        kind = node["type"]
        kind = kind if isinstance(kind, str) else kind.__name__
        if node.get("param_name", "lr" if kind.endswith("LR") else None) == "lr":
            yield node
    elif isinstance(node, (dict, list, tuple)):
        for inner in node.values() if isinstance(node, dict) else node:
            yield from _lr_schedulers(inner)
