"""`launcher='pytorch'` without a GPU."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import mimseg  # noqa: F401  mends the launcher

pytestmark = pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU is here")


@pytest.fixture
def environment():
    """What torch's launcher sets, for one process."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    return dict(
        MASTER_ADDR="127.0.0.1",
        MASTER_PORT=str(port),
        WORLD_SIZE="1",
        RANK="0",
        LOCAL_RANK="0",
        OMP_NUM_THREADS="1",
    )


def test_two_processes_train_as_one(tmp_path, environment):
    worker = Path(__file__).with_name("gloo_worker.py")
    processes = [
        subprocess.Popen(
            [sys.executable, worker, tmp_path],
            env={**os.environ, **environment, "WORLD_SIZE": "2", "RANK": rank, "LOCAL_RANK": rank},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in "01"
    ]
    logs = [process.communicate(timeout=120)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], "\n".join(logs)

    ranks = [torch.load(tmp_path / f"rank{rank}.pth") for rank in (0, 1)]
    line = torch.nn.Linear(3, 1)
    torch.nn.init.ones_(line.weight), torch.nn.init.ones_(line.bias)
    for step in ([0, 1], [2, 3]):  # the sampler deals the points out in turn
        x = torch.stack([(torch.arange(3.0) + i) / 4 for i in step])
        loss = (line(x) - torch.tensor([[float(i**2)] for i in step])).square().mean()
        gradients = torch.autograd.grad(loss, list(line.parameters()))
        with torch.no_grad():
            for parameter, gradient in zip(line.parameters(), gradients, strict=True):
                parameter -= 0.1 * gradient
    for name, expected in line.state_dict().items():
        assert torch.equal(ranks[0][f"linear.{name}"], ranks[1][f"linear.{name}"])
        torch.testing.assert_close(ranks[0][f"linear.{name}"], expected)


def test_sync_batchnorm_uses_its_own_batch(environment, monkeypatch):
    """torch has none on the CPU; the parameters stay the same objects, for the optimizer."""
    from mmengine.dist import init_dist
    from mmengine.model import MMDistributedDataParallel

    for key, value in environment.items():
        monkeypatch.setenv(key, value)
    init_dist("pytorch")
    try:
        assert torch.distributed.get_backend() == "gloo"
        model = torch.nn.Sequential(torch.nn.Conv2d(1, 4, 1), torch.nn.SyncBatchNorm(4))
        weight, images = model[1].weight, torch.randn(2, 1, 4, 4)
        wrapped = MMDistributedDataParallel(module=model, device_ids=[0], broadcast_buffers=False)
        expected = torch.nn.functional.batch_norm(model[0](images), None, None, training=True)
        torch.testing.assert_close(wrapped(images), expected)
        assert any(parameter is weight for parameter in wrapped.parameters())
    finally:
        torch.distributed.destroy_process_group()
