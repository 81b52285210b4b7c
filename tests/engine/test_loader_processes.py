"""Loader processes end with their training, however it ends."""

import os
import signal

from torch.utils.data import Dataset

from dev.trial import fork
from mimseg.engine.runner import Runner


class Big(Dataset):
    """Samples that do not fit into the pipe to the training, which nobody may empty any more."""

    def __len__(self):
        return 64

    def __getitem__(self, index):
        return bytes(1 << 20)


def test_they_end_when_the_training_is_killed(tmp_path):
    def work():
        sampler = dict(type="DefaultSampler", shuffle=False)
        cfg = dict(dataset=Big(), batch_size=1, num_workers=2, sampler=sampler)
        batches = iter(Runner.build_dataloader(cfg))
        next(batches)
        os.kill(os.getpid(), signal.SIGKILL)

    launch = fork(1, work, tmp_path / "log")
    assert launch.wait() == [-signal.SIGKILL]
    left = launch.left(12)
    for process in left:
        os.kill(process, signal.SIGKILL)
    assert not left
