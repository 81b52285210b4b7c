"""A checkpoint holds all that a resumed run needs, in plain values."""

import os
import signal
import time
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from mmengine.registry import DATASETS, HOOKS, MODELS

from dev.trial import Trial, import_all, make_data, train_trial
from mimseg.checkpoints.files import read_checkpoint
from mimseg.engine import checkpoint_hook, run
from mimseg.engine.resume import plain
from mimseg.engine.signals import RESUMABLE, StopRequest
from mimseg.errors import EndOfRun, UserError
from mimseg.files import read_json, tail


class ResumeToy(BaseModel):
    def __init__(self, width=2):
        super().__init__()
        self.fc = torch.nn.Linear(3, width)
        self.dropout = torch.nn.Dropout(0.5)

    def forward(self, inputs, data_samples=None, mode="loss"):
        x = self.dropout(self.fc(torch.stack(inputs)))
        return {"loss": (x - 1).pow(2).mean()}


class ResumeData(torch.utils.data.Dataset):
    metainfo = {"classes": ("a", "b")}

    def __init__(self, length=24):
        self.length = length

    def __len__(self):
        return self.length

    def __getitem__(self, index):
        return {"inputs": torch.rand(3) + index}


class StopAt(Hook):
    """Raise in a step, as a kill would, or send a signal."""

    def __init__(self, step, number=None):
        self.step, self.number = step, number

    def before_train_iter(self, runner, **_):
        if runner.iter + 1 == self.step:
            if self.number is None:
                raise KeyboardInterrupt
            os.kill(os.getpid(), self.number)


@pytest.fixture(scope="module", autouse=True)
def _registered():
    kinds = ((MODELS, ResumeToy), (DATASETS, ResumeData), (HOOKS, StopAt))
    for registry, kind in kinds:
        registry.register_module(module=kind)
    yield
    for registry, kind in kinds:
        del registry.module_dict[kind.__name__]


def config(work_dir, iters=8, epochs=None, stop=None, hook=None, **options):
    schedule = dict(type="LinearLR", start_factor=1.0, end_factor=0.0, begin=0, by_epoch=False)
    cfg = Config(
        dict(
            model=dict(type="ResumeToy"),
            work_dir=str(work_dir),
            train_dataloader=dict(
                dataset=dict(type="ResumeData"),
                batch_size=4,
                num_workers=0,
                persistent_workers=True,  # it means nothing without workers
                sampler=dict(type="DefaultSampler" if epochs else "InfiniteSampler", shuffle=True),
            ),
            train_cfg=dict(by_epoch=False, max_iters=iters),
            optim_wrapper=dict(optimizer=dict(type="AdamW", lr=0.1)),
            param_scheduler=[dict(schedule, end=iters)],
            default_hooks=dict(
                checkpoint=dict(
                    type="mimseg.CheckpointHook",
                    by_epoch=epochs is not None,
                    interval=1 if epochs else 4,
                    **(hook or {}),
                ),
                logger=dict(type="LoggerHook", interval=1),
            ),
            log_level="ERROR",
            randomness=dict(seed=0),
            default_scope="mmengine",
            custom_hooks=[] if stop is None else [dict(type="StopAt", **stop)],
        )
    )
    if epochs:
        cfg.train_cfg = dict(by_epoch=True, max_epochs=epochs)
        cfg.param_scheduler[0]["end"] = 6 * epochs
    cfg.merge_from_dict(options)
    return cfg


def interrupted(cfg):
    with pytest.raises(KeyboardInterrupt):
        run.train(cfg)


def weights(path):
    return read_checkpoint(path)["state_dict"]["fc.weight"]


def rates(folder):
    logs = read_checkpoint(folder)["message_hub"]["log_scalars"]
    return logs["train/lr"]["values"]


# ---------------------------------------------------------------- the checkpoint itself


def test_plain_torch_reads_it(tmp_path):
    run.train(config(tmp_path))
    checkpoint = torch.load(tmp_path / "iter_8.pth", weights_only=True)
    assert checkpoint["meta"]["run"]["processes"] == 1 and checkpoint["meta"]["iter"] == 8
    assert checkpoint["message_hub"]["log_scalars"]["train/loss"]["values"][-1] > 0
    assert "cfg" not in checkpoint["message_hub"]["runtime_info"]


def test_its_history_does_not_grow(tmp_path):
    rare = {"default_hooks.logger.interval": 100, "default_hooks.checkpoint.interval": 60}
    run.train(config(tmp_path / "a", iters=120, **rare))
    run.train(config(tmp_path / "b", iters=300, **rare))
    logs = [
        torch.load(path, weights_only=True)["message_hub"]["log_scalars"]["train/loss"]["values"]
        for path in (tmp_path / "a/iter_120.pth", tmp_path / "b/iter_300.pth")
    ]
    assert len(logs[0]) == len(logs[1]) == 100
    small, large = ((tmp_path / p).stat().st_size for p in ("a/iter_120.pth", "b/iter_300.pth"))
    assert large < small + 500


def test_plain_values():
    import numpy as np

    value = {"a": np.float32(2), 3: (np.arange(2), Path("x")), "f": len, "s": {"b"}, "t": True}
    assert plain(value) == {"a": 2.0, 3: ([0, 1], "x"), "s": ["b"], "t": True}


# ---------------------------------------------------------------- where it was interrupted


@pytest.mark.parametrize("accumulation", [1, 3, 4])
def test_gradients_on_their_way_are_kept(tmp_path, accumulation):
    """An epoch's end need not be an optimizer's step: 6 steps per epoch, 4 accumulated."""
    option = {"optim_wrapper.accumulative_counts": accumulation}
    run.train(config(tmp_path / "whole", epochs=3, **option))
    interrupted(config(tmp_path / "broken", epochs=3, stop={"step": 7}, **option))
    saved = read_checkpoint(tmp_path / "broken/epoch_1.pth")
    assert ("gradients" in saved) == (accumulation == 4)
    run.train(config(tmp_path / "broken", epochs=3, **option), resume=True)
    whole, broken = (weights(tmp_path / name / "epoch_3.pth") for name in ("whole", "broken"))
    assert torch.equal(whole, broken)


def test_a_signal_saves_at_the_next_optimizer_step(tmp_path):
    option = {"optim_wrapper.accumulative_counts": 2}
    run.train(config(tmp_path / "whole", **option))
    stop, handler = {"step": 5, "number": signal.SIGUSR1}, signal.getsignal(signal.SIGUSR1)
    with pytest.raises(EndOfRun) as end:
        run.train(config(tmp_path / "broken", stop=stop, **option))
    assert end.value.code == RESUMABLE and "after step 6 of 8 on SIGUSR1" in str(end.value)
    assert read_json(tmp_path / "broken/stopped.json")["step"] == 6
    assert (tmp_path / "broken/step_6.pth").exists()
    assert signal.getsignal(signal.SIGUSR1) is handler
    run.train(config(tmp_path / "broken", **option), resume=True)
    whole, broken = (weights(tmp_path / name / "iter_8.pth") for name in ("whole", "broken"))
    assert torch.equal(whole, broken)
    left = {path.name for path in (tmp_path / "broken").glob("*.pth")}
    assert left == {"iter_4.pth", "iter_8.pth"}  # the interim one has gone
    assert not (tmp_path / "broken/stopped.json").exists()


@pytest.mark.parametrize("second", [signal.SIGTERM, signal.SIGUSR1])
def test_a_second_signal_stops_at_once(second):
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.dup2(writing, 1)
        StopRequest().install()
        os.write(1, b"ready\n")
        while True:
            time.sleep(0.05)
    with os.fdopen(reading) as output:
        assert output.readline() == "ready\n"
        os.kill(child, signal.SIGTERM)
        assert "SIGTERM: saving" in output.readline()
        time.sleep(0.2)
        assert os.waitpid(child, os.WNOHANG) == (0, 0)
        os.kill(child, second)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -second


def test_signals_of_a_group_within_seconds_are_one(monkeypatch):
    request = StopRequest()
    monkeypatch.setattr("mimseg.engine.signals.get_world_size", lambda: 2)
    request._handle(signal.SIGTERM, None)
    request._handle(signal.SIGTERM, None)  # the launcher's, after the terminal's
    assert request.name == "SIGTERM"
    request._since -= 60
    with pytest.raises(KeyboardInterrupt):
        request._handle(signal.SIGINT, None)


def test_the_clock_saves(tmp_path):
    interrupted(config(tmp_path, iters=8, stop={"step": 4}, hook={"save_minutes": 1e-9}))
    assert {path.name for path in tmp_path.glob("*.pth")} == {"step_3.pth"}
    with pytest.raises(UserError, match="save_minutes"):
        checkpoint_hook.CheckpointHook(save_minutes=0)


def test_without_a_checkpoint_it_says_that_it_starts(tmp_path, capsys):
    run.train(config(tmp_path, iters=1), resume=True)
    assert "no checkpoint yet" in capsys.readouterr().out


# ---------------------------------------------------------------- another plan


def test_a_longer_schedule_is_computed_again(tmp_path, capsys):
    run.train(config(tmp_path / "long", iters=16))
    run.train(config(tmp_path / "run", iters=8))
    run.train(config(tmp_path / "run", iters=16), resume=True)
    out = capsys.readouterr().out
    assert "train_cfg.max_iters was 8 and is 16" in out and "computed again" in out
    whole, resumed = rates(tmp_path / "long/iter_16.pth"), rates(tmp_path / "run/iter_16.pth")
    assert resumed[8:] == pytest.approx(whole[8:]) and resumed[8] > 0.01
    assert resumed[7] < 0.02  # the first eight were those of the short schedule


def test_a_rate_that_stays_at_zero_is_refused(tmp_path):
    run.train(config(tmp_path, iters=8, **{"param_scheduler.0.end": 6}))
    longer = config(tmp_path, iters=16, **{"param_scheduler.0.end": 6})
    with pytest.raises(UserError, match=r"rate of 0 at step 8.*up to 16"):
        run.train(longer, resume=True)


def test_a_lower_rate_is_taken(tmp_path):
    run.train(config(tmp_path, iters=8))
    lower = config(tmp_path, iters=16, **{"optim_wrapper.optimizer.lr": 0.01})
    run.train(lower, resume=True)
    assert 0.001 < rates(tmp_path / "iter_16.pth")[8] < 0.01


def test_a_shorter_schedule_is_refused(tmp_path):
    run.train(config(tmp_path, iters=8))
    with pytest.raises(UserError, match=r"train_cfg.max_iters = 4.*step 8"):
        run.train(config(tmp_path, iters=4), resume=True)


def test_another_model_or_data_is_refused(tmp_path):
    interrupted(config(tmp_path, stop={"step": 6}))
    for options, name in (
        ({"model.width": 3}, "model.width"),
        ({"train_dataloader.dataset.length": 28}, "images in the training set"),
        ({"train_dataloader.batch_size": 3}, "4 images per step"),
        ({"randomness.seed": 1}, "randomness.seed"),
    ):
        with pytest.raises(UserError, match=name):
            run.train(config(tmp_path, **options), resume=True)


def test_a_seed_that_was_drawn_is_taken_again(tmp_path):
    interrupted(config(tmp_path, stop={"step": 6}, **{"randomness.seed": None}))
    seed = read_checkpoint(tmp_path / "iter_4.pth")["meta"]["seed"]
    cfg = config(tmp_path, **{"randomness.seed": None})
    run.train(cfg, resume=True)
    assert cfg.randomness.seed == seed
    assert read_checkpoint(tmp_path / "iter_8.pth")["meta"]["seed"] == seed


# ---------------------------------------------------------------- its record

RECORDED = {
    "mae": {"train_cfg.max_epochs": 1},
    "upernet": {
        "train_cfg.max_iters": 2,
        "train_cfg.val_interval": 2,
        "default_hooks.checkpoint.interval": 2,
        # saved again after the validation, as a checkpoint that needs no other one
        "default_hooks.checkpoint.save_best": "mIoU",
    },
}


@pytest.mark.parametrize("kind", RECORDED)
def test_a_run_killed_before_its_record_writes_the_same_one(kind, tmp_path):
    import_all()
    data, out, options = make_data(tmp_path / "data"), tmp_path / "run", RECORDED[kind]
    assert train_trial(Trial(kind), data, out, options=options) == [0], tail(tmp_path / "run.log")
    unbroken = read_json(out / "done.json")
    assert unbroken["loss"] > 0 and (unbroken["metrics"] is None) == (kind == "mae")
    files = sorted(path.name for path in out.glob("*.pth"))
    (out / "done.json").unlink()
    assert train_trial(Trial(kind), data, out, resume=True, options=options) == [0]
    resumed = read_json(out / "done.json")
    assert resumed | {"seconds": 0} == unbroken | {"seconds": 0}
    assert sorted(path.name for path in out.glob("*.pth")) == files
