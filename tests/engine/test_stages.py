"""A stage begins when nothing of the one before is alive."""

import multiprocessing
import weakref
from pathlib import Path

import numpy as np
import pytest
from mmengine.logging import MessageHub, MMLogger
from mmengine.visualization import Visualizer
from PIL import Image

from mimseg.engine import run
from mimseg.engine.prepare import merge_options
from mimseg.engine.stages import _check_finished, stage_configs, train_stages
from mimseg.errors import UserError
from mimseg.files import write_json
from mimseg.recipes.configs import config


def open_files():
    return {str(path.resolve()) for path in Path("/proc/self/fd").iterdir()}


def names():
    """Of runs, by which mmengine keeps what belongs to them."""
    kept = (MessageHub, Visualizer, MMLogger)
    return [name for kind in kept for name in kind._instance_dict if "dbot" in name]


def test_nothing_of_a_stage_outlives_it(tmp_path, monkeypatch):
    images, out = tmp_path / "images", tmp_path / "run"
    images.mkdir()
    for number in range(4):
        pixels = np.random.randint(0, 255, (32, 32, 3), np.uint8)
        Image.fromarray(pixels).save(images / f"{number}.png")
    cfg = config("dbot/dbot_vit-mini-p8_1xb64-2x20e_scenes")
    arch = dict(embed_dims=32, num_layers=2, num_heads=2, feedforward_channels=32)
    merge_options(
        cfg,
        {
            "data_root": str(images),
            "train_dataloader.batch_size": 2,
            "train_dataloader.num_workers": 2,
            "train_cfg.max_epochs": 1,
            "param_scheduler.1.end": 2,
            "model.backbone.arch": arch | dict(_delete_=True),
        },
    )
    cfg.work_dir = str(out)
    alive, before = [], {}
    build, earlier = run.build_runner, names()  # of runs of other tests that ended with an error

    def spied(stage):
        if alive:
            before["model"] = [ref() for ref in alive]
            before["processes"] = multiprocessing.active_children()
            before["files"] = [name for name in open_files() if name.startswith(str(out))]
            before["names"] = [name for name in names() if name not in earlier]
        runner = build(stage)
        things = (runner, runner.model, runner.train_loop)  # builds the loader
        alive.extend(map(weakref.ref, things))
        train = runner.train

        def train_and_look():
            result = train()
            optimizer = runner.optim_wrapper.optimizer
            alive.append(weakref.ref(next(iter(optimizer.state))))
            before.setdefault("processes in training", len(multiprocessing.active_children()))
            return result

        runner.train = train_and_look
        return runner

    monkeypatch.setattr(run, "build_runner", spied)
    record = train_stages(cfg)
    assert before.pop("processes in training") == 2  # persistent: they would stay
    assert before == dict(model=[None] * 4, processes=[], files=[], names=[])
    assert (out / record["checkpoint"]).is_file()


def test_a_finished_stage_keeps_its_length_once_the_next_has_begun(tmp_path):
    cfg = config("dbot/dbot_vit-mini-p8_1xb64-2x20e_scenes")
    cfg.work_dir = str(tmp_path)
    stages = stage_configs(cfg)
    for name in stages:
        (tmp_path / name).mkdir()
    shorter = dict(stages["stage1"].train_cfg.to_dict(), max_epochs=3)
    write_json(tmp_path / "stage1/done.json", {"schedule": shorter})
    _check_finished(stages)  # the second stage is still to be trained
    (tmp_path / "stage2/epoch_1.pth").write_bytes(b"x")
    with pytest.raises(UserError, match="stage1 was finished: stage2 has begun from it"):
        _check_finished(stages)
    write_json(tmp_path / "stage1/done.json", {"schedule": stages["stage1"].train_cfg.to_dict()})
    _check_finished(stages)
