"""Freezes what no output of a model depends on, and names what else gets no gradient."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager

from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner
from torch import nn

from mimseg.checkpoints.names import shorten
from mimseg.errors import UserError
from mimseg.students.needed import unused_by_encode, unused_by_maps
from mimseg.students.vit import ViT

_UNREDUCED = "Expected to have finished reduction"


def freeze_unused(model: nn.Module) -> str | None:
    """Freeze the parts of a `mimseg.ViT` that the rest of the model makes no use of.

    Blocks after the last output, the final norm where no output is normalized, a mask token without
    a mask: none of them gets a gradient, for which a distributed run would wait. They keep their
    place in checkpoints.

    Args:
        model: unwrapped; a pretraining, or any model with a `backbone`.

    Returns:
        A sentence that names them; None where everything is used.
    """
    vit = getattr(model, "backbone", None)
    if not isinstance(vit, ViT):
        return None
    if hasattr(model, "student_needs"):
        unused = unused_by_encode(vit, model.student_needs(), model.masking is not None)
        reader = "the objectives"
    else:
        blocks = _blocks_read(model, vit)
        unused = unused_by_maps(vit, blocks)
        whole = set(blocks) == set(vit.out_indices)
        reader = f"out_indices {vit.out_indices}" if whole else f"heads that read {blocks}"
    for part in (part for parts in unused.values() for part in parts):
        part.requires_grad_(False)
    *names, last = unused or [""]
    text = " and ".join([", ".join(names), last] if names else [last])
    return f"backbone {text}: not used by {reader}" if text else None


def _blocks_read(model: nn.Module, vit: ViT) -> tuple[int, ...]:
    """The blocks whose maps a model reads: a segmentor's heads may leave some out."""
    heads = [getattr(model, name, None) for name in ("decode_head", "auxiliary_head")]
    heads = [h for head in heads for h in (head if isinstance(head, nn.ModuleList) else [head])]
    read = [head.in_index for head in heads if hasattr(head, "in_index")]
    if not read or getattr(model, "neck", None) is not None:
        return vit.out_indices
    places = {i for index in read for i in ([index] if isinstance(index, int) else index)}
    places = {place % len(vit.out_indices) for place in places}
    return tuple(block for place, block in enumerate(vit.out_indices) if place in places)


class UntrainedHook(Hook):
    """Name, after the first step of a run in one process, the parameters that got no gradient.

    Several processes end in an error instead; see `report_unreduced`. An optimizer without a state,
    plain SGD, tells nothing.
    """

    def __init__(self) -> None:
        self._asked = False

    def after_train_iter(self, runner: Runner, *args: object, **kwargs: object) -> None:
        state = getattr(getattr(runner.optim_wrapper, "optimizer", None), "state", None)
        if self._asked or not state or is_model_wrapper(runner.model):
            return
        self._asked = True
        names = [n for n, p in _trained(runner.model) if p not in state]
        if names:
            text = f"no gradient in the first step for {shorten(names)}: they do not train"
            print_log(text, runner.logger, logging.WARNING)


@contextmanager
def report_unreduced(model: nn.Module) -> Iterator[None]:
    """Within the block, name the parameters for whose gradients a distributed run waits in vain."""
    try:
        yield
    except RuntimeError as error:
        if _UNREDUCED not in str(error) or not is_model_wrapper(model):
            raise
        names = [name for name, _ in _trained(model.module)]
        listed = re.search(r"did not receive grad for rank \d+: ([\d ]+)", str(error))
        lacking = [names[int(i)] for i in listed.group(1).split()] if listed else []
        raise UserError(
            "find_unused_parameters",
            False,
            expected="a gradient for every parameter that trains; none came for "
            + (shorten(lacking) if lacking else "some"),
            fix="freeze them or leave them out of the model; find_unused_parameters=True trains "
            "without them and is slower",
        ) from error


def _trained(model: nn.Module) -> list[tuple[str, nn.Parameter]]:
    return [(name, p) for name, p in model.named_parameters() if p.requires_grad]
