"""Two processes start with the same student, teacher and masks' seed, and stay equal."""

import json
import subprocess
import sys
from pathlib import Path

import torch

from mimseg.checkpoints.files import read_checkpoint
from mimseg.cli.scenes import main as make_scenes

ROOT = Path(__file__).parents[2]
WORKER = """
import sys, hashlib, json
from pathlib import Path
import torch, mimseg
torch.set_num_threads(1)
from mmengine.config import Config
from mmengine.dist import get_rank
from mimseg.engine import run
from mimseg.engine.prepare import merge_options
from mimseg.engine.stages import train_stages

out, data = sys.argv[1:3]
cfg = Config.fromfile("configs/dbot/dbot_vit-mini-p8_1xb64-2x20e_scenes.py")
merge_options(cfg, {
    "data_root": data, "train_dataloader.batch_size": 2, "train_dataloader.num_workers": 0,
    "train_dataloader.persistent_workers": False, "train_cfg.max_epochs": 1,
    "param_scheduler.1.end": 2,
})
cfg.launcher, cfg.work_dir = "pytorch", out
digests = {}
build = run.build_runner

def spied(cfg):
    runner = build(cfg)
    def after_train():
        model = runner.model.module
        for name, tensors in (
            ("student", model.backbone.state_dict()),
            ("teacher", model.bank["teacher"].state_dict()),
            ("seed", {"seed": model.masking.seed}),
        ):
            whole = b"".join(t.contiguous().numpy().tobytes() for t in tensors.values())
            key = Path(cfg.work_dir).name + " " + name
            digests[key] = hashlib.sha256(whole).hexdigest()
        digests[Path(cfg.work_dir).name + " noise"] = float(torch.rand(()))
    train = runner.train
    runner.train = lambda: (train(), after_train())[0]
    return runner

run.build_runner = spied
train_stages(cfg)
Path(out, f"rank{get_rank()}.json").write_text(json.dumps(digests))
"""


def test_ranks_agree_in_every_stage(tmp_path):
    data, out = tmp_path / "scenes", tmp_path / "run"
    make_scenes([str(data), "--unlabelled", "8", "--size", "64", "--workers", "1"])
    out.mkdir()
    script = tmp_path / "worker.py"
    script.write_text(WORKER)
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    done = subprocess.run(
        [*launch, script, out, data / "unlabelled"], capture_output=True, text=True, cwd=ROOT
    )
    assert done.returncode == 0, done.stderr[-3000:]
    first, second = (json.loads((out / f"rank{rank}.json").read_text()) for rank in (0, 1))
    for stage in ("stage1", "stage2"):  # drop path differs, the weights do not
        assert first.pop(f"{stage} noise") != second.pop(f"{stage} noise")
    assert len(first) == 6 and first == second
    states = [read_checkpoint(out / f"stage{n}/epoch_1.pth")["state_dict"] for n in (1, 2)]
    key = "backbone.layers.0.attn.qkv.weight"
    assert torch.equal(states[1][f"teachers.teacher.{key}"], states[0][key])
