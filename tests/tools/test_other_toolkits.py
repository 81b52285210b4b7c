"""Our configs under mmsegmentation's, mmdetection's and mmpretrain's own tools and interfaces."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import cv2
import pytest
import torch
from mmengine.config import Config

ROOT = Path(__file__).parents[2]
(SEG,) = (ROOT / "configs/scenes").glob("upernet_*.py")
(DET,) = (ROOT / "configs/scenes").glob("mask-rcnn_*.py")
MAE = ROOT / "configs/mae/mae_vit-mini-p8_1xb64-40e_scenes.py"
LOADER = ["train_dataloader.num_workers=0", "train_dataloader.persistent_workers=False"]
DENSE = [
    *LOADER,
    "train_dataloader.batch_size=2",
    "val_dataloader.num_workers=0",
    "test_dataloader.num_workers=0",
    "train_cfg.max_iters=2",
    "train_cfg.val_interval=2",
    "default_hooks.checkpoint.interval=2",
]


def run_tool(toolkit, tool, *argv, options):
    """Run the toolkit's installed script in a folder of no importance, mimseg importable."""
    package = Path(importlib.util.find_spec(toolkit).origin).parent
    # mmdet's test.py imports mmcv's ops before it reads the config and its custom_imports
    first = ["-m", "mimseg"] if (toolkit, tool) == ("mmdet", "test") else []
    script = package / f".mim/tools/{tool}.py"
    command = [sys.executable, *first, script, *argv, "--cfg-options", *options]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        list(map(str, command)), capture_output=True, text=True, cwd=argv[-1], env=env
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-3000:]
    return done.stdout + done.stderr


@pytest.fixture(scope="module", params=["mmseg", "mmdet"])
def trained(request, scenes, tmp_path_factory):
    """The toolkit, our config, and the checkpoint that the toolkit's own script wrote."""
    config = {"mmseg": SEG, "mmdet": DET}[request.param]
    work_dir = tmp_path_factory.mktemp(request.param)
    options = [f"data_root={scenes}", *DENSE]
    if request.param == "mmdet":  # our configs name the annotation files outright
        cfg = Config.fromfile(config)
        options += [
            f"{key}.ann_file={str(cfg[key].ann_file).replace(cfg.data_root, str(scenes))}"
            for key in ("val_evaluator", "test_evaluator")
        ]
    options += [
        f"{split}_dataloader.dataset.data_root={scenes}" for split in ("train", "val", "test")
    ]
    run_tool(request.param, "train", config, "--work-dir", work_dir, options=options)
    (checkpoint,) = work_dir.glob("iter_2.pth")
    return request.param, config, checkpoint, options


def test_the_toolkits_own_test_script(trained, tmp_path):
    toolkit, config, checkpoint, options = trained
    told = run_tool(toolkit, "test", config, checkpoint, "--work-dir", tmp_path, options=options)
    assert {"mmseg": "mIoU", "mmdet": "bbox"}[toolkit] in told
    assert "unexpected key" not in told and "missing keys" not in told


def test_three_lines_of_a_users_script(trained, scenes):
    toolkit, config, checkpoint, _ = trained
    image = next((scenes / "images/test").glob("*"))
    size = cv2.imread(str(image)).shape[:2]
    if toolkit == "mmseg":
        from mmseg.apis import inference_model, init_model

        model = init_model(str(config), str(checkpoint), device="cpu")
        result = inference_model(model, str(image))
        assert result.pred_sem_seg.data.shape == (1, *size)
    else:
        from mmdet.apis import inference_detector, init_detector

        model = init_detector(str(config), str(checkpoint), device="cpu")
        result = inference_detector(model, str(image))
        assert result.pred_instances.bboxes.shape[1:] == (4,)
    saved = torch.load(checkpoint, weights_only=False)["state_dict"]
    loaded = model.backbone.state_dict()
    assert all(torch.equal(loaded[name], saved[f"backbone.{name}"]) for name in loaded)


def test_pretraining_under_mmpretrain(scenes, tmp_path):
    options = [
        f"train_dataloader.dataset.data_root={scenes}/unlabelled",
        *LOADER,
        "train_dataloader.batch_size=4",  # two iterations
        "train_cfg.max_epochs=1",
    ]
    run_tool("mmpretrain", "train", MAE, "--work-dir", tmp_path, options=options)
    state = torch.load(tmp_path / "epoch_1.pth", weights_only=False)["state_dict"]
    assert any(name.startswith("backbone.layers.0.") for name in state)
