"""The optimizer's moments of an earlier stage."""

from __future__ import annotations

from mmengine.hooks import Hook
from mmengine.runner import Runner

from mimseg.checkpoints.files import read_checkpoint, resolve_checkpoint
from mimseg.errors import UserError
from mimseg.registry import HOOKS


@HOOKS.register_module()
class OptimizerHandoverHook(Hook):
    """Start with the moments (AdamW's exp_avg, exp_avg_sq, step) that an earlier stage ended with.

    dBOT's official code never resets the optimizer at a stage change. Learning rates and groups
    stay this run's own. A resumed run has its moments already and is left alone.

    Args:
        source: checkpoint or work dir of the earlier stage.
    """

    def __init__(self, source: str) -> None:
        self.source = source

    def before_train(self, runner: Runner) -> None:
        if runner.iter > 0:
            return
        path = resolve_checkpoint(self.source, "stages.optimizer")
        saved = read_checkpoint(path).get("optimizer")
        optimizer = runner.optim_wrapper.optimizer
        state = optimizer.state_dict()
        sizes = [len(group["params"]) for group in state["param_groups"]]
        if saved is None or [len(g["params"]) for g in saved["param_groups"]] != sizes:
            raise UserError(
                "stages.optimizer", str(path), expected="the optimizer state of the same parameters"
            )
        params = [p for group in optimizer.param_groups for p in group["params"]]
        for index, moments in saved["state"].items():
            shape = tuple(getattr(moments.get("exp_avg"), "shape", params[index].shape))
            if shape != tuple(params[index].shape):
                raise UserError(
                    "stages.optimizer",
                    str(path),
                    expected=f"moments of the same parameters; one is {shape} there and "
                    f"{tuple(params[index].shape)} here",
                    fix="drop the stage's optimizer key: the architecture changed",
                )
        optimizer.load_state_dict({**state, "state": saved["state"]})
        runner.logger.info(f"optimizer moments taken over from {path}")
