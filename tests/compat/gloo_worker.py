"""One of two processes that train a tiny model on the CPU. Run by test_cpu_distributed.py."""

import sys

import torch
from mmengine.model import BaseModel
from mmengine.runner import Runner
from torch.utils.data import Dataset

import mimseg  # noqa: F401  after mmengine, as another toolkit's tool would import it


class Line(BaseModel):
    """Least squares: (B, 3) -> (B, 1)."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = torch.nn.Linear(3, 1)

    def init_weights(self) -> None:
        """Start from ones, so that the test can repeat the run."""
        torch.nn.init.ones_(self.linear.weight)
        torch.nn.init.ones_(self.linear.bias)

    def forward(self, x, y, mode="loss"):
        """Return the mean squared error over the batch."""
        return dict(loss=(self.linear(torch.stack(x)) - torch.stack(y)).square().mean())


class Points(Dataset):
    """Four points, so that each of two processes sees another one in each of two steps."""

    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> dict:
        x = torch.arange(3.0) + index
        return dict(x=x / 4, y=torch.tensor([float(index**2)]))


if __name__ == "__main__":
    out = sys.argv[1]
    runner = Runner(
        Line(),
        work_dir=out,
        train_dataloader=dict(
            batch_size=1, dataset=Points(), sampler=dict(type="DefaultSampler", shuffle=False)
        ),
        train_cfg=dict(by_epoch=True, max_epochs=1),
        optim_wrapper=dict(optimizer=dict(type="SGD", lr=0.1)),
        launcher="pytorch",
        env_cfg=dict(dist_cfg=dict(backend="nccl")),
        experiment_name="gloo",
    )
    runner.train()
    torch.save(runner.model.module.state_dict(), f"{out}/rank{runner.rank}.pth")
