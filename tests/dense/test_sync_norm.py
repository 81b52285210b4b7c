"""SyncBN: statistics of all processes on GPUs, a plain norm where one process trains."""

import os
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from mimseg.compat.cpu_distributed import wrap_on_cpu
from mimseg.registry import MODELS


def neck():
    return MODELS.build(dict(type="mimseg.FeaturePyramid", in_channels=8, norm="SyncBN"))


def norms(model):
    return [type(m) for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]


class Wrapper:
    """Takes what mmengine's wrapper takes, without a process group."""

    def __init__(self, module, device_ids=None):
        self.module, self.device_ids = module, device_ids


def test_our_wrapper_changes_models_on_the_cpu_alone():
    class Wrapped(Wrapper):
        pass

    wrap_on_cpu(SimpleNamespace(MMDistributedDataParallel=Wrapped))
    with torch.device("meta"):  # any device but the CPU
        model = neck()
    elsewhere = Wrapped(model, device_ids=[0])
    assert norms(elsewhere.module) == [nn.SyncBatchNorm] and elsewhere.device_ids == [0]
    here = Wrapped(neck(), device_ids=[0])
    assert nn.SyncBatchNorm not in norms(here.module) and len(norms(here.module)) == 1
    assert here.device_ids is None


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_stays_under_ddp_on_a_gpu(monkeypatch):
    from mmengine.model import MMDistributedDataParallel

    for key, value in dict(MASTER_ADDR="127.0.0.1", MASTER_PORT="29711").items():
        monkeypatch.setenv(key, os.environ.get(key, value))
    torch.distributed.init_process_group("nccl", rank=0, world_size=1)
    try:
        wrapped = MMDistributedDataParallel(module=neck().cuda(), device_ids=[0])
        assert norms(wrapped) == [nn.SyncBatchNorm]
        maps = [torch.randn(2, 8, 4, 4, device="cuda") for _ in range(4)]
        wrapped(maps)[0].sum().backward()
    finally:
        torch.distributed.destroy_process_group()
