"""Shards a model and its optimizer over the processes of a run (FSDP2), and saves them.

mmengine's own way to FSDP is another runner (FlexibleRunner), without the loops, the resuming and
the checks of ours. Here the model is built, loaded and resumed as always, then sharded before its
first step. A checkpoint is gathered tensor by tensor into the usual file, or written in parts, one
by each process; either is resumed by any number of processes, sharded or not. What it costs: each
process holds the whole model, without gradients, until it is sharded, and the first one holds it in
host memory at a save that gathers.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from typing import Any

import torch
from mmengine.device import get_device
from mmengine.dist import get_world_size, is_main_process
from mmengine.hooks import EMAHook, Hook
from mmengine.optim import OptimWrapper
from mmengine.runner import Runner
from torch import Tensor, nn
from torch.distributed import new_group
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import (
    MixedPrecisionPolicy,
    fully_shard,
    register_fsdp_forward_method,
)
from torch.distributed.tensor import DTensor, distribute_tensor

from mimseg.checkpoints.shards import take, tensors_of
from mimseg.engine.build_errors import near_name
from mimseg.engine.console import say
from mimseg.errors import UserError, require_choice

_KEY = "fsdp"
_DTYPES = ("float32", "bfloat16")


@dataclass(frozen=True)
class Sharding:
    """How a run is sharded; `fsdp=True` in a config stands for the defaults.

    Args:
        checkpoint: "whole" gathers each checkpoint into the usual file; "sharded" has each process
            write its own part (`mimseg.checkpoints.shards`).
        teachers: "whole" keeps frozen teachers on each process; "sharded" shards the blocks that
            are only run.
        param_dtype: in which the weights of the student's blocks travel and compute. With
            "bfloat16" the tokens between blocks are bfloat16, too, where autocast alone has
            float32; norms, positions and heads outside of the blocks stay in float32.
        reduce_dtype: in which the gradients of those blocks travel.

    Raises:
        UserError: another value.
    """

    checkpoint: str = "whole"
    teachers: str = "whole"
    param_dtype: str = "float32"
    reduce_dtype: str = "float32"

    def __post_init__(self) -> None:
        for key in ("checkpoint", "teachers"):
            require_choice(f"{_KEY}.{key}", getattr(self, key), ("whole", "sharded"))
        for key in ("param_dtype", "reduce_dtype"):
            require_choice(f"{_KEY}.{key}", getattr(self, key), _DTYPES)

    @classmethod
    def read(cls, value: bool | Mapping) -> Sharding:
        """What a config's `fsdp` says.

        Raises:
            UserError: neither True nor a dict of the options above.
        """
        if value is True:
            return cls()
        names = [field.name for field in fields(cls)]
        if not isinstance(value, Mapping):
            raise UserError(_KEY, value, expected=f"True or a dict with keys among {names}")
        for key in value:
            if key not in names:
                near = near_name(key, names)
                fix = f"did you mean {_KEY}.{near}?" if near else ""
                raise UserError(
                    f"{_KEY}.{key}", value[key], expected=f"a key among {names}", fix=fix
                )
        return cls(**value)

    def policy(self) -> MixedPrecisionPolicy:
        param, reduce = (getattr(torch, name) for name in (self.param_dtype, self.reduce_dtype))
        return MixedPrecisionPolicy(param_dtype=param, reduce_dtype=reduce)


class ShardHook(Hook):
    """Shard the model before the first step, and gather it, or its parts, for each checkpoint.

    The blocks of the backbone are sharded one by one, the rest of the model together.

    Args:
        options: `Sharding`, or what a config has for it.

    Raises:
        UserError: one process; an averaged copy of the model, which would have to be sharded with
            it; tables of relative positions by block; several optimizers; weights in bfloat16
            without autocast; gradients of a checkpoint that no step has used yet.
    """

    priority = "VERY_LOW"  # after what loads weights and moments

    def __init__(self, options: bool | Mapping = True) -> None:
        if get_world_size() == 1:
            fix = "start it with torchrun and --launcher pytorch, or leave --fsdp out"
            raise UserError(_KEY, True, expected="several processes", fix=fix)
        self.options = Sharding.read(options)

    def before_train(self, runner: Runner) -> None:
        self._check(runner)
        shard(runner.model, runner.optim_wrapper, self.options)
        if self.options.checkpoint == "sharded":
            runner.in_shards = True
            self._group = new_group(backend="gloo")  # of its own, for a thread that saves
        parts = [p.to_local().numel() for p in runner.model.parameters()]
        total = sum(p.numel() for p in runner.model.parameters())
        text = f"{sum(parts) / 1e6:.1f} M of {total / 1e6:.1f} M parameters on each process"
        say(f"{'sharded':<15}{text}", runner.logger)

    def before_save(self, runner: Runner) -> None:
        """Collect this process's part, or gather all tensors, which the first process keeps."""
        state = {"state_dict": runner.model.state_dict()}
        packed = state["optimizer"] = runner.optim_wrapper.state_dict()
        if (shards := runner.shards) is not None:
            if not shards.optimizer:
                del state["optimizer"]
            shards.group = self._group
            shards.tensors = {
                name: value
                for name, value in tensors_of(state).items()
                # what is whole on all: of the first one, as in a checkpoint that is gathered
                if isinstance(value, DTensor) or is_main_process()
            }
            return
        self._state = dict(_whole(state["state_dict"]))
        self._optimizer = {**packed, "state": _whole_states(packed["state"])}

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        if runner.shards is not None:
            take(checkpoint, runner.shards.folder)
            return
        checkpoint["state_dict"] = self._state
        if "optimizer" in checkpoint:
            checkpoint["optimizer"] = self._optimizer
        self._state, self._optimizer = {}, {}

    def _check(self, runner: Runner) -> None:
        """Raise UserError where a run cannot be sharded; see the class."""
        if not isinstance(runner.optim_wrapper, OptimWrapper):
            raise UserError(_KEY, True, expected="one optimizer", fix="leave --fsdp out")
        if any(isinstance(hook, EMAHook) for hook in runner.hooks):
            expected = "no averaged copy of the whole model; EMAHook keeps one"
            raise UserError(_KEY, True, expected=expected, fix="leave one of the two out")
        require_shardable(runner.model)
        precision = getattr(runner.optim_wrapper, "precision", "float32")
        if self.options.param_dtype not in ("float32", precision):
            raise UserError(
                f"{_KEY}.param_dtype",
                self.options.param_dtype,
                expected=f"'float32' in a run in {precision}",
                fix="train with --amp, on a device that has bfloat16",
            )
        if any(parameter.grad is not None for parameter in runner.model.parameters()):
            expected = "a checkpoint between optimizer steps; this one has gradients under way"
            raise UserError(_KEY, True, expected=expected, fix="resume without --fsdp for a step")


def require_shardable(model: nn.Module) -> None:
    """Raise UserError where a model cannot be sharded; see `ShardHook`."""
    if getattr(getattr(model, "backbone", None), "rel_pos_kind", None) == "per_block":
        raise UserError(
            "model.backbone.rel_pos_bias",
            "per_block",
            expected="'shared' or 'none' with fsdp: tables of the blocks are read before their "
            "shards are there",
            fix="leave --fsdp out",
        )


def shard(model: nn.Module, wrapper: OptimWrapper, options: Sharding | None = None) -> None:
    """Shard a model's parameters and its optimizer's state, in place."""
    options = options or Sharding()
    names = {parameter: name for name, parameter in model.named_parameters()}
    mesh = init_device_mesh(get_device(), (get_world_size(),))
    for block in getattr(getattr(model, "backbone", None), "layers", ()):
        fully_shard(block, mesh=mesh, mp_policy=options.policy())
        for method in ("forward_tapped", "query_key_value"):  # what is called beyond forward
            if hasattr(block, method):
                register_fsdp_forward_method(block, method)
    fully_shard(model, mesh=mesh)
    if options.teachers == "sharded":
        _shard_teachers(model, mesh)
    sharded = dict(model.named_parameters())
    optimizer, states = wrapper.optimizer, dict(wrapper.optimizer.state)
    optimizer.state.clear()
    for group in optimizer.param_groups:
        whole = group["params"]
        group["params"] = [sharded[names[parameter]] for parameter in whole]
        for before, after in zip(whole, group["params"], strict=True):
            if before in states:
                optimizer.state[after] = {
                    key: _like(value, before, after) for key, value in states[before].items()
                }


def _shard_teachers(model: nn.Module, mesh: DeviceMesh) -> None:
    for block in teacher_blocks(model):
        fully_shard(block, mesh=mesh, reshard_after_forward=True)


def teacher_blocks(model: nn.Module) -> list[nn.Module]:
    """The blocks that `fsdp.teachers="sharded"` shards.

    Raises:
        UserError: a model without teachers.
    """
    bank = getattr(model, "bank", None)
    if bank is None:
        fix = "leave it out: a fine-tuning has no teachers"
        raise UserError(f"{_KEY}.teachers", "sharded", expected="a pretraining", fix=fix)
    needs = model.teacher_needs().items()
    return [block for name, need in needs for block in bank[name].plain_blocks(need)]


def _like(value: Any, before: Tensor, after: DTensor) -> Any:
    """A part of the optimizer's state, sharded where it has the parameter's shape."""
    if not isinstance(value, Tensor) or value.shape != before.shape or not value.dim():
        return value
    return distribute_tensor(value.to(after.device), after.device_mesh, after.placements)


def _whole(tensors: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """Name and whole value, on the host of the first rank; elsewhere nothing is kept."""
    for name, value in tensors.items():
        if isinstance(value, DTensor):
            value = value.full_tensor()
        if is_main_process():
            yield name, value.detach().cpu() if isinstance(value, Tensor) else value


def _whole_states(states: dict[int, dict]) -> dict[int, dict]:
    return {index: dict(_whole(state)) for index, state in states.items()}
