"""Shards a model and its optimizer over the processes of a run (FSDP2), and saves them whole.

mmengine's own way to FSDP is another runner (FlexibleRunner), without the loops, the resuming and
the checks of ours. Here the model is built, loaded and resumed as always, then sharded before its
first step; at a save the shards are gathered tensor by tensor. So a checkpoint is the same file,
resumed by any number of processes, sharded or not. What it costs: each process holds the whole
model, without gradients, until it is sharded, and the first one holds it in host memory at a save.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from mmengine.device import get_device
from mmengine.dist import get_world_size, is_main_process
from mmengine.hooks import EMAHook, Hook
from mmengine.optim import OptimWrapper
from mmengine.runner import Runner
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard, register_fsdp_forward_method
from torch.distributed.tensor import DTensor, distribute_tensor

from mimseg.engine.console import say
from mimseg.errors import UserError

_KEY = "fsdp"


class ShardHook(Hook):
    """Shard the model before the first step, and gather it for each checkpoint.

    The blocks of the backbone are sharded one by one, the rest of the model together. Weights and
    gradients travel in float32; bfloat16 is autocast's, as without sharding, since norms want
    float32 weights under it. Frozen teachers are no part of the model and stay whole on each
    process.

    Raises:
        UserError: one process; a teacher or an averaged copy that follows the student, which would
            have to be sharded with it; tables of relative positions by block; several optimizers;
            gradients of a checkpoint that no step has used yet.
    """

    priority = "VERY_LOW"  # after what loads weights and moments

    def __init__(self) -> None:
        if get_world_size() == 1:
            fix = "start it with torchrun and --launcher pytorch, or leave --fsdp out"
            raise UserError(_KEY, True, expected="several processes", fix=fix)

    def before_train(self, runner: Runner) -> None:
        check_shardable(runner)
        shard(runner.model, runner.optim_wrapper)
        parts = [p.to_local().numel() for p in runner.model.parameters()]
        total = sum(p.numel() for p in runner.model.parameters())
        text = f"{sum(parts) / 1e6:.1f} M of {total / 1e6:.1f} M parameters on each process"
        say(f"{'sharded':<15}{text}", runner.logger)

    def before_save(self, runner: Runner) -> None:
        """Gather all tensors; all ranks take part, the first one keeps them."""
        self._state = dict(_whole(runner.model.state_dict()))
        packed = runner.optim_wrapper.state_dict()
        self._optimizer = {**packed, "state": _whole_states(packed["state"])}

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        checkpoint["state_dict"] = self._state
        if "optimizer" in checkpoint:
            checkpoint["optimizer"] = self._optimizer
        self._state, self._optimizer = {}, {}


def check_shardable(runner: Runner) -> None:
    """Raise UserError where a run cannot be sharded; see `ShardHook`."""
    if not isinstance(runner.optim_wrapper, OptimWrapper):
        raise UserError(_KEY, True, expected="one optimizer", fix="leave --fsdp out")
    averages = [type(hook).__name__ for hook in runner.hooks if isinstance(hook, EMAHook)]
    require_shardable(runner.model, averages)
    if any(parameter.grad is not None for parameter in runner.model.parameters()):
        expected = "a checkpoint between optimizer steps; this one has gradients under way"
        raise UserError(_KEY, True, expected=expected, fix="resume without --fsdp for a step")


def require_shardable(model: nn.Module, averages: Sequence[str] = ()) -> None:
    """Raise UserError where a model cannot be sharded; see `ShardHook`.

    Args:
        averages: hooks that keep an average of it.
    """
    teachers = getattr(getattr(model, "bank", None), "teachers", {})
    moving = [name for name, teacher in teachers.items() if hasattr(teacher, "update")]
    if moving := [*moving, *averages]:
        expected = f"teachers that stand still; {', '.join(moving)} follows the student"
        raise UserError(_KEY, True, expected=expected, fix="leave --fsdp out")
    if getattr(getattr(model, "backbone", None), "rel_pos_kind", None) == "per_block":
        raise UserError(
            "model.backbone.rel_pos_bias",
            "per_block",
            expected="'shared' or 'none' with fsdp: tables of the blocks are read before their "
            "shards are there",
            fix="leave --fsdp out",
        )


def shard(model: nn.Module, wrapper: OptimWrapper) -> None:
    """Shard a model's parameters and its optimizer's state, in place."""
    names = {parameter: name for name, parameter in model.named_parameters()}
    mesh = init_device_mesh(get_device(), (get_world_size(),))
    for block in getattr(getattr(model, "backbone", None), "layers", ()):
        fully_shard(block, mesh=mesh)
        for method in ("forward_tapped", "query_key_value"):  # what is called beyond forward
            if hasattr(block, method):
                register_fsdp_forward_method(block, method)
    fully_shard(model, mesh=mesh)
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
