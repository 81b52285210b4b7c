"""tools/train.py and tools/test.py under two processes without a GPU."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from mmengine.config import Config

from mimseg.cli.scenes import main as make_scenes

ROOT = Path(__file__).parents[2]
SCENES = ROOT / "configs/scenes"
SHORT = [
    "train_dataloader.batch_size=2",
    "train_dataloader.num_workers=0",
    "train_dataloader.persistent_workers=False",
    "val_dataloader.num_workers=0",
    "test_dataloader.num_workers=0",
    "train_cfg.max_iters=2",
    "train_cfg.val_interval=2",
]


@pytest.mark.parametrize("kind, blocks", [("upernet", "(1,2,3,4)"), ("mask-rcnn", "(3,)")])
def test_two_processes_train_and_test(kind, blocks, tmp_path):
    """A parameter without a gradient, or a wrapped model that a tool forgets, would end here.

    Of six blocks the last ones have no part in the output.
    """
    (config,) = SCENES.glob(f"{kind}_*.py")
    data, out = tmp_path / "scenes", tmp_path / "run"
    counts = ["--train", "8", "--val", "4", "--test", "4", "--workers", "1", "--size", "64"]
    make_scenes([str(data), *counts])
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    options = ["--work-dir", out, "--launcher", "pytorch", "--cfg-options", f"data_root={data}"]
    short = [*SHORT, f"model.backbone.out_indices={blocks}"]
    for tool, more in (("train", []), ("test", [out])):
        command = [*launch, ROOT / f"tools/{tool}.py", config, *more, *options, *short]
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr[-3000:]
        assert done.stdout.count("not trained") == (tool == "train")
    assert json.loads((out / "done.json").read_text())["checkpoint"] == "iter_2.pth"
    metrics = json.loads((out / "test.json").read_text())["metrics"]
    assert "mIoU" in metrics or Config.fromfile(config).default_scope == "mmdet"
