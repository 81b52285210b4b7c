"""Statistics over two processes equal those of the whole batch in one."""

import subprocess
import sys

import torch

from mimseg.outputs import TeacherOutput
from mimseg.registry import MODELS

CONFIGS = {
    "batch": dict(type="mimseg.BatchNormalization"),
    "softmax": dict(type="mimseg.SoftmaxNormalization", center_momentum=0.5),
    "phi_s": dict(type="mimseg.PHISNormalization", warmup_steps=2),
}
ROWS = {0: slice(0, 3), 1: slice(3, 5)}  # ranks of unequal batch size


def batches(rows=slice(None)):
    made = []
    for seed in range(3):
        x = torch.randn(5, 7, 8, generator=torch.Generator().manual_seed(seed)) * 2 + seed
        made.append(TeacherOutput((2, 3), {-1: x[rows, 1:]}, {-1: x[rows, 0]}))
    return made


def run(rows):
    results = {}
    for name, cfg in CONFIGS.items():
        built = MODELS.build(dict(cfg))
        built.bind(8)
        results[name] = [built(batch) for batch in batches(rows)]
        results[name + " state"] = built.state_dict()
    return results


def test_two_ranks_equal_one(tmp_path):
    launch = [sys.executable, __file__, str(tmp_path)]
    workers = [
        subprocess.Popen([*launch, str(rank)], stderr=subprocess.PIPE, text=True) for rank in ROWS
    ]
    whole = run(slice(None))
    for worker in workers:
        _, errors = worker.communicate(timeout=240)
        assert worker.returncode == 0, errors[-3000:]
    ranks = [torch.load(tmp_path / f"{rank}.pth", weights_only=True) for rank in (0, 1)]
    for name in CONFIGS:
        for step, expected in enumerate(whole[name]):
            parts = torch.cat([rank[name][step] for rank in ranks])
            torch.testing.assert_close(parts, expected, atol=1e-4, rtol=1e-4)
        for key, value in ranks[0][name + " state"].items():
            assert torch.equal(value, ranks[1][name + " state"][key]), (name, key)


if __name__ == "__main__":
    torch.set_num_threads(1)
    folder, rank = sys.argv[1], int(sys.argv[2])
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/store", rank=rank, world_size=len(ROWS)
    )
    torch.save(run(ROWS[rank]), f"{folder}/{rank}.pth")
    torch.distributed.destroy_process_group()
