"""Mixed precision in bfloat16, on CPUs too."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from mmengine.config import Config
from mmengine.device import get_device
from torch import Tensor, nn

from mimseg.engine.optim_wrapper import OptimWrapper
from mimseg.errors import UserError
from mimseg.registry import OPTIM_WRAPPERS


@OPTIM_WRAPPERS.register_module()
class AmpOptimWrapper(OptimWrapper):
    """Run the forward pass under autocast to bfloat16; weights, gradients and loss stay float32.

    mmengine's wrapper of that name refuses a CPU, and scales the loss, which bfloat16, having the
    range of float32, does not need. All else is `OptimWrapper`'s: steps that are not finite are
    skipped.

    Args:
        optimizer: the optimizer; its first parameter tells the device.
        dtype: "bfloat16" and nothing else: float16 would need a loss scaler.
        kwargs: accumulative_counts, clip_grad, skip_nonfinite, as for OptimWrapper.

    Raises:
        UserError: another dtype, or a device that has no bfloat16 arithmetic.
    """

    precision = "bfloat16"

    def __init__(self, optimizer: torch.optim.Optimizer, dtype: str = "bfloat16", **kwargs) -> None:
        if str(dtype).removeprefix("torch.") != "bfloat16":
            raise UserError(
                "optim_wrapper.dtype",
                dtype,
                expected="'bfloat16'",
                fix="leave it out, or use mmengine's own type='AmpOptimWrapper' for float16",
            )
        super().__init__(optimizer, **kwargs)
        self._checked: set[str] = set()
        self._check(optimizer.param_groups[0]["params"][0].device.type)

    def _check(self, device_type: str) -> None:
        if device_type in self._checked:
            return
        require_bf16(device_type)
        self._checked.add(device_type)

    def scale_loss(self, loss: Tensor) -> Tensor:
        """Divide the loss by the accumulation's counts, in float32."""
        return super().scale_loss(loss.float())

    @contextmanager
    def optim_context(self, model: nn.Module) -> Iterator[None]:
        """Autocast on the model's device, within the context of `OptimWrapper`."""
        device_type = next(model.parameters()).device.type
        self._check(device_type)
        with super().optim_context(model), torch.autocast(device_type, dtype=torch.bfloat16):
            yield


def fall_back(cfg: Config) -> str | None:
    """Set a config's bfloat16 to float32 where the device has none.

    Returns:
        A sentence that says so; None where nothing was changed.
    """
    device_type = get_device()
    wrapper = cfg.optim_wrapper
    if wrapper.get("type") != "mimseg.AmpOptimWrapper" or bf16_supported(device_type):
        return None
    wrapper.type = "OptimWrapper"
    wrapper.pop("dtype", None)
    return (
        f"this {device_type} has no bfloat16 arithmetic, which the config asks for: training is "
        "in float32"
    )


def require_bf16(device_type: str) -> None:
    """Raise UserError where the device has no bfloat16 arithmetic."""
    if not bf16_supported(device_type):
        raise UserError(
            "optim_wrapper.type",
            "mimseg.AmpOptimWrapper",
            expected=f"a device with bfloat16 arithmetic; this {device_type} has none "
            "(a CPU needs AMX or AVX512-BF16, an NVIDIA GPU compute capability 8.0)",
            fix="train in float32: drop --amp, or set optim_wrapper.type=OptimWrapper",
        )


def bf16_supported(device_type: str) -> bool:
    """Whether the device computes in bfloat16 itself; emulation is slower than float32."""
    if device_type == "cpu":
        able = torch.cpu.get_capabilities()
        return bool(able.get("amx_bf16", False) or able.get("avx512_bf16", False))
    if device_type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    check = getattr(getattr(torch, device_type, None), "is_bf16_supported", None)
    return bool(check and check())
