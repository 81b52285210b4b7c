"""Steps the optimizer where losses and gradient are finite, and leaves all as it was otherwise."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from mmengine.optim import OptimWrapper as MMEngineOptimWrapper
from torch import Tensor, nn

from mimseg.engine.verdict import Judge, Verdict, is_host
from mimseg.errors import UserError
from mimseg.registry import OPTIM_WRAPPERS

_PLAIN = ("OptimWrapper", "mmengine.OptimWrapper", MMEngineOptimWrapper)
_OURS = ("mimseg.OptimWrapper", "mimseg.AmpOptimWrapper")
_FUSED = ("Adam", "AdamW", "SGD")


@OPTIM_WRAPPERS.register_module()
class OptimWrapper(MMEngineOptimWrapper):
    """mmengine's, but that a step that is not finite changes nothing.

    A step counts where the losses of its iterations, on all ranks, and the norm of its gradient are
    finite. One that does not is skipped: weights, the optimizer's moments and counts, and the
    buffers that the forward passes have changed (batch norms, the targets' statistics) stay what
    they were, and its gradients are dropped. Iterations are counted and the schedule goes on.

    Nothing waits for a GPU. The decision is made there, and fused optimizers (`fused=True` of
    Adam, AdamW and SGD, which our Runner sets on a GPU) obey it there; the host reads it a step
    later. Other optimizers cost one wait per step. A teacher that follows the student takes one
    more small step towards it where the host does not know yet that the step was skipped.

    The gradient's norm before clipping is logged as `train/grad_norm`, on a GPU a step later.

    Args:
        optimizer, accumulative_counts, clip_grad: as for mmengine's.
        skip_nonfinite: how many steps in a row may be skipped. With one more, `judge.over` is set
            and no later step counts; `mimseg.engine.finite` then ends the run.

    Attributes:
        judge: what decides; its verdicts are read from there.
        skipped: whether the last step was skipped, as far as the host knows.
        precision: of the forward pass.

    Raises:
        UserError: skip_nonfinite is no whole number from 0.
    """

    precision = "float32"

    def __init__(
        self,
        optimizer: torch.optim.Optimizer,
        accumulative_counts: int = 1,
        clip_grad: dict | None = None,
        skip_nonfinite: int = 0,
    ) -> None:
        if not isinstance(skip_nonfinite, int) or skip_nonfinite < 0:
            expected = "a whole number from 0, the steps in a row that may be skipped"
            raise UserError("optim_wrapper.skip_nonfinite", skip_nonfinite, expected=expected)
        super().__init__(optimizer, accumulative_counts, clip_grad)
        self.judge = Judge(skip_nonfinite, self._log)
        self.skipped = False
        self._bad_loss: Tensor | bool = False
        self._buffers = _Buffers()

    @contextmanager
    def optim_context(self, model: nn.Module) -> Iterator[None]:
        """mmengine's context for accumulation; the model's buffers are kept before a step."""
        self._buffers.keep(model)
        with super().optim_context(model):
            yield

    def backward(self, loss: Tensor, **kwargs: Any) -> None:
        """Compute gradients, and note on the device whether the loss is finite."""
        super().backward(loss, **kwargs)
        self._bad_loss = self._bad_loss | ~loss.detach().isfinite().all()

    def step(self, **kwargs: Any) -> None:
        """Clip the gradient and step, unless the step is to be skipped."""
        skip = self.judge.decide(self._bad_loss, self._clip_grad())
        self._bad_loss = False
        if not is_host(skip.device) and self._takes_flag():
            self.skipped = False
            self.optimizer.found_inf = skip  # the name is GradScaler's
            try:
                self.optimizer.step(**kwargs)
            finally:
                del self.optimizer.found_inf
        else:
            self.skipped = bool(skip)
            if not self.skipped:
                self.optimizer.step(**kwargs)
        self._buffers.restore(skip, self.judge.over)

    def _takes_flag(self) -> bool:
        """Whether the optimizer obeys a flag on the device.

        Not in its very first step: SGD makes its momentum there, and leaves it undefined where
        the flag is set. Nor with sharded parameters, which do not mix with a plain tensor.
        """
        optimizer = self.optimizer
        if hasattr(optimizer.param_groups[0]["params"][0], "to_local"):
            return False
        fused = all(group.get("fused") for group in optimizer.param_groups)
        able = getattr(optimizer, "_step_supports_amp_scaling", False)
        return able and fused and bool(optimizer.state)

    def _clip_grad(self) -> Tensor:
        """Clip the gradient where the config says so. Returns its norm before, a scalar."""
        groups = self.optimizer.param_groups
        parameters = [p for group in groups for p in group["params"] if p.grad is not None]
        if self.clip_grad_kwargs and self.grad_name == "grad_norm":
            norm = self.clip_func(parameters, **self.clip_grad_kwargs)
        else:
            norm = torch.nn.utils.get_total_norm([p.grad for p in parameters])
            if self.clip_grad_kwargs:
                self.clip_func(parameters, **self.clip_grad_kwargs)
        if hasattr(norm, "full_tensor"):  # of gradients that are sharded
            norm = norm.full_tensor()
        return norm.float()

    def _log(self, verdict: Verdict) -> None:
        if verdict.gradient:
            self.message_hub.update_scalar("train/grad_norm", verdict.norm)

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """As mmengine's; how the optimizer computes is this run's and not the checkpoint's."""
        groups = list(state_dict["param_groups"])
        for index, group in enumerate(self.optimizer.param_groups[: len(groups)]):
            ways = {key: group[key] for key in ("fused", "foreach") if key in group}
            groups[index] = {**groups[index], **ways}
        super().load_state_dict({**state_dict, "param_groups": groups})


@dataclass
class _Group:
    """Buffers of one kind: the module and the name of each, and what they held, one after another.

    Buffers of a module that are named in its `counters` count iterations, skipped ones included:
    they are put back only when no step counts any more.
    """

    counters: bool
    places: list[tuple[nn.Module, str]] = field(default_factory=list)
    copies: list[Tensor] = field(default_factory=list)


class _Buffers:
    """Copies, on their device, of a model's buffers, which a forward pass may change or replace.

    All are copied, a few kernels in all: a batch norm changes its own without a trace.
    """

    def __init__(self) -> None:
        self._model: nn.Module | None = None
        self._groups: list[_Group] = []  # empty between steps

    @torch.no_grad()
    def keep(self, model: nn.Module) -> None:
        """Copy the buffers, unless a step has begun."""
        if self._groups:
            return
        if model is not self._model:
            self._model = model
            self._modules = [module for module in model.modules() if module._buffers]
        groups: dict[tuple, _Group] = {}
        for module in self._modules:
            counters = getattr(module, "counters", ())
            for name, buffer in module._buffers.items():
                if buffer is None or _overlaps(buffer):
                    continue
                key = (buffer.device, buffer.dtype, name in counters)
                group = groups.setdefault(key, _Group(key[-1]))
                group.places.append((module, name))
                group.copies.append(buffer)
        for group in groups.values():
            group.copies = _unflatten(_flatten(group.copies), group.copies)
        self._groups = list(groups.values())

    @torch.no_grad()
    def restore(self, skip: Tensor, over: Tensor) -> None:
        """Put the copies back where the flags, scalars on the device, are 1; ends the step."""
        for group in self._groups:
            flag = over if group.counters else skip
            if is_host(flag.device) and not flag:
                continue
            pairs = []
            for (module, name), copied in zip(group.places, group.copies, strict=True):
                buffer = module._buffers[name]
                if buffer.shape == copied.shape:
                    pairs.append((buffer, copied))
                elif is_host(flag.device):  # made in this very step
                    module._buffers[name] = copied
            if pairs:
                buffers, copies = (list(tensors) for tensors in zip(*pairs, strict=True))
                put = flag.bool().to(buffers[0].device)
                chosen = torch.where(put, _flatten(copies), _flatten(buffers))
                torch._foreach_copy_(buffers, _unflatten(chosen, buffers))
        self._groups = []


def _flatten(tensors: list[Tensor]) -> Tensor:
    return torch.cat([tensor.flatten() for tensor in tensors])


def _unflatten(flat: Tensor, like: list[Tensor]) -> list[Tensor]:
    """The parts of a flat tensor, in the shapes of others."""
    parts = flat.split([tensor.numel() for tensor in like])
    return [part.view(tensor.shape) for part, tensor in zip(parts, like, strict=True)]


def _overlaps(tensor: Tensor) -> bool:
    """Whether values share memory, so that none can be written (`expand`)."""
    sizes = zip(tensor.stride(), tensor.shape, strict=True)
    return any(not step and size > 1 for step, size in sizes)


def with_our_wrapper(cfg: Any, device: str) -> Any:
    """A wrapper's config in which `OptimWrapper` means ours, and a GPU's optimizer is fused.

    Args:
        cfg: the value of `optim_wrapper`; one of another kind is returned as it is.
        device: the type of the device that trains.
    """
    if not isinstance(cfg, dict) or "optimizer" not in cfg:
        return cfg
    kind = cfg.get("type", "OptimWrapper")
    if kind not in (*_PLAIN, *_OURS):
        return cfg
    cfg = copy.deepcopy(cfg)
    cfg["type"] = "mimseg.OptimWrapper" if kind in _PLAIN else kind
    optimizer = cfg["optimizer"]
    if device == "cuda" and isinstance(optimizer, dict) and optimizer.get("type") in _FUSED:
        if not {"fused", "foreach", "differentiable"} & set(optimizer):
            optimizer["fused"] = True
    return cfg
