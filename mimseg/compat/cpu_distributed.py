"""`--launcher pytorch` on a machine without a GPU: gloo processes for tests and small runs.

Reason: mmengine calls `torch.cuda.set_device` before it opens the process group, asks for nccl
unless a backend is named, and hands DistributedDataParallel a GPU's index for a model on the CPU.
All three end in an error without a GPU. It can go when mmengine starts gloo processes by itself;
with a GPU nothing changes.
"""

from __future__ import annotations

import functools
import logging
from types import ModuleType


def start_with_gloo(utils: ModuleType) -> None:
    """Where there is no accelerator, open the process group without CUDA calls, and gloo for nccl.

    Args:
        utils: the module mmengine.dist.utils.
    """
    original = utils._init_dist_pytorch

    @functools.wraps(original)
    def init_dist_pytorch(backend: str, init_backend: str = "torch", **kwargs) -> None:
        from mmengine.device import get_device

        if get_device() != "cpu" or init_backend != "torch":
            return original(backend, init_backend=init_backend, **kwargs)
        backend = "gloo" if backend == "nccl" else backend
        utils.torch_dist.init_process_group(backend=backend, **kwargs)

    utils._init_dist_pytorch = init_dist_pytorch


def wrap_on_cpu(wrappers: ModuleType) -> None:
    """Let MMDistributedDataParallel take a model on the CPU as Runner gives it.

    It drops the device ids, which torch refuses there, and makes every SyncBatchNorm a BatchNorm,
    since torch has none on the CPU: each process then normalizes by its own batch.

    Args:
        wrappers: the module mmengine.model.wrappers.distributed.
    """
    wrapper = wrappers.MMDistributedDataParallel
    original = wrapper.__init__

    @functools.wraps(original)
    def init(self, module, *args, **kwargs) -> None:
        if all(parameter.device.type == "cpu" for parameter in module.parameters()):
            kwargs.pop("device_ids", None)
            kwargs.pop("output_device", None)
            module = _without_sync_batchnorm(module)
        original(self, module, *args, **kwargs)

    wrapper.__init__ = init


def _without_sync_batchnorm(module):
    from mmengine.logging import print_log
    from mmengine.model import revert_sync_batchnorm
    from torch.nn import SyncBatchNorm

    if any(isinstance(child, SyncBatchNorm) for child in module.modules()):
        print_log(
            "SyncBatchNorm needs a GPU: each process uses its own batch.",
            "current",
            logging.WARNING,
        )
        return revert_sync_batchnorm(module)
    return module
