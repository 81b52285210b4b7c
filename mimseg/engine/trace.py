"""Traces in which module a step's first value that is not finite appears."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, is_dataclass
from math import isfinite, nan
from typing import Any

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Origin:
    """Where the first value that is not finite was met.

    Args:
        phase: "forward" or "backward".
        module: dotted name of the one that made it; empty for the model itself.
        kind: its class.
        place: the tensor, in words.
        shape: of the tensor.
        share: of its values that are not finite.
        rows: indices of its first dimension with such values.
        before: the largest absolute value that is finite in what the module was given: its inputs,
            or in the backward pass its outputs' gradients; NaN where it was given none.
        weights: the largest absolute value of the module's own parameters, NaN or infinite where
            one is; None without any.
    """

    phase: str
    module: str
    kind: str
    place: str
    shape: tuple[int, ...]
    share: float
    rows: tuple[int, ...]
    before: float
    weights: float | None

    def text(self) -> str:
        """One line for the console."""
        size = "x".join(map(str, self.shape)) or "1"
        parts = [
            f"{self.phase}, in {self.module or 'the model'} ({self.kind}): {self.place}",
            f"{100 * self.share:.3g}% of {size} values are not finite",
        ]
        if isfinite(self.before):
            given = "its inputs" if self.phase == "forward" else "the gradients of its outputs"
            parts.append(f"{given} reach {self.before:.3g}")
        if self.weights is not None:
            reach = f"reach {self.weights:.3g}" if isfinite(self.weights) else "are not finite"
            parts.append(f"its weights {reach}")
        return ", ".join(parts)


class Trace:
    """Watches the inputs and outputs of all modules of a model, and their gradients.

    A value at a module's output was made in that module (the innermost one is met first); one that
    is met at an input was made by the code of the module that calls it. Backwards it is the other
    way round. Reading every tensor makes a step slow.

    Args:
        model: without wrappers, and not compiled.

    Attributes:
        origin: None as long as all is finite.
        largest: the name of the parameter with the largest finite gradient, and that value.
    """

    def __init__(self, model: nn.Module) -> None:
        self.origin: Origin | None = None
        self.largest = ("", 0.0)
        self._names = {module: name for name, module in model.named_modules()}
        self._model = model
        self._running: list[nn.Module] = []
        self._given: dict[tuple[str, nn.Module], float] = {}

    @contextmanager
    def watch(self) -> Iterator[Trace]:
        """Within the block, watch the model's passes."""
        handles = []
        for module in self._names:
            handles.append(module.register_forward_pre_hook(self._before, with_kwargs=True))
            handles.append(module.register_forward_hook(self._after))
            for key, parameter in module.named_parameters(recurse=False):
                if parameter.requires_grad:
                    handles.append(parameter.register_hook(self._weigher(module, key)))
        try:
            yield self
        finally:
            for handle in handles:
                handle.remove()

    def _before(self, module: nn.Module, args: tuple, kwargs: dict) -> Any:
        caller = self._running[-1] if self._running else self._model
        tensors = list(_tensors((args, kwargs)))
        self._given["forward", module] = max(map(_largest, tensors), default=nan)
        for tensor in tensors:
            self._look(tensor, "forward", caller, f"the input of {self._names[module]}")
        self._running.append(module)
        return _map((args, kwargs), lambda tensor: self._alias(tensor, module))

    def _alias(self, tensor: Tensor, module: nn.Module) -> Tensor:
        """The tensor by another node of the graph: its gradient comes from this module alone."""
        if tensor.requires_grad:
            tensor = tensor.view_as(tensor)
            tensor.register_hook(self._watcher(module, "the gradient of its input"))
        return tensor

    def _after(self, module: nn.Module, args: tuple, output: Any) -> None:
        self._running.pop()
        caller = self._running[-1] if self._running else self._model
        place = f"the gradient of the output of {self._names[module]}"
        for tensor in _tensors(output):
            self._look(tensor, "forward", module, "its output")
            if tensor.requires_grad:
                tensor.register_hook(self._watcher(caller, place, module))

    def _watcher(self, maker: nn.Module, place: str, given: nn.Module | None = None) -> Any:
        """A hook on a gradient that `maker` makes and that `given` is given."""

        def hook(gradient: Tensor) -> None:
            if given is not None:
                self._given["backward", given] = _largest(gradient)
            self._look(gradient, "backward", maker, place)

        return hook

    def _weigher(self, module: nn.Module, key: str) -> Any:
        """A hook on a parameter's gradient."""
        name = f"{self._names[module]}.{key}".lstrip(".")

        def hook(gradient: Tensor) -> None:
            value = _largest(gradient)
            if value > self.largest[1]:
                self.largest = (name, value)
            self._look(gradient, "backward", module, f"the gradient of its {key}")

        return hook

    def _look(self, tensor: Tensor, phase: str, maker: nn.Module, place: str) -> None:
        if self.origin is not None:
            return
        bad = ~tensor.detach().isfinite()
        if not bad.any():
            return
        weights = [p.detach().abs().max() for p in maker.parameters(recurse=False) if p.numel()]
        self.origin = Origin(
            phase,
            self._names[maker],
            type(maker).__name__,
            place,
            tuple(tensor.shape),
            bad.float().mean().item(),
            tuple(bad.flatten(1).any(1).nonzero().flatten().tolist()) if bad.dim() > 1 else (),
            self._given.get((phase, maker), nan),
            torch.stack(weights).max().item() if weights else None,
        )


def _largest(tensor: Tensor) -> float:
    """The largest absolute value that is finite."""
    values = tensor.detach()
    values = values[values.isfinite()]
    return values.abs().max().item() if values.numel() else nan


def _tensors(node: Any) -> Iterator[Tensor]:
    """The floating-point tensors of a nest of dicts, lists, tuples and dataclasses."""
    if isinstance(node, Tensor):
        if node.is_floating_point():
            yield node
    elif is_dataclass(node) and not isinstance(node, type):
        yield from _tensors(vars(node))
    elif isinstance(node, (dict, list, tuple)):
        for value in node.values() if isinstance(node, dict) else node:
            yield from _tensors(value)


def _map(node: Any, change: Any) -> Any:
    """The nest with each floating-point tensor changed; other objects are passed on."""
    if isinstance(node, Tensor):
        return change(node) if node.is_floating_point() else node
    if type(node) is dict:
        return {key: _map(value, change) for key, value in node.items()}
    if type(node) in (list, tuple):
        return type(node)(_map(value, change) for value in node)
    return node
