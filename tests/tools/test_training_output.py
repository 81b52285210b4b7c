"""What a person sees of a training: a screen of header, lines by time, what was made, what next."""

import json
import shlex
from pathlib import Path
from types import SimpleNamespace

import pytest
from huggingface_hub import constants
from mmengine.config import Config
from mmengine.logging import HistoryBuffer

from mimseg.checkpoints.files import read_checkpoint
from mimseg.cli.test import main as run_test
from mimseg.cli.train import main as train_main
from mimseg.engine import amp_optim_wrapper, console
from mimseg.engine.summary import next_command, say_result
from mimseg.recipes.configs import CONFIGS, find_config

MAE = "mae/mae_vit-mini-p8_1xb64-40e_scenes"
SEG = "scenes/upernet_vit-mini-p8_1xb8-600i_scenes-64x64"
SHORT = [
    "train_dataloader.batch_size=4",
    "train_dataloader.num_workers=0",
    "train_dataloader.persistent_workers=False",
    "param_scheduler.1.end=2",
    "train_cfg.max_epochs=1",
]


@pytest.fixture(autouse=True)
def quiet_again(monkeypatch):
    monkeypatch.setattr(console, "_verbose", False)


def pretrain(scenes, work_dir, *options, flags=()):
    options = ["--cfg-options", f"data_root={scenes}/unlabelled", *SHORT, *options]
    return train_main([MAE, "--work-dir", str(work_dir), *flags, *options])


def test_the_console_is_short_and_the_log_is_whole(scenes, tmp_path, capfd):
    assert pretrain(scenes, tmp_path) == 0
    out = capfd.readouterr().out
    lines = out.splitlines()
    assert len(lines) < 20 and max(map(len, lines)) < 200 and "\033" not in out
    for words in (
        f"config         {MAE}",
        "backbone       ViT mini, patch 8, 1.2 M parameters",
        "teacher        PixelTeacher",
        f"work dir       {tmp_path}",
        f"data           8 images in {scenes}/unlabelled",
        "plan           1 epoch, 2 steps of 4 images",
        "learning rate  1.5e-3",
        ", float32, 0 loader workers",
        "step 1/2   50%  epoch 1/1  loss ",
        " s per step  about 00:0",
        "step 2/2  100%",
        " images/s",
        f"  checkpoint  {tmp_path}/epoch_1.pth",
        f"  mimseg train {SEG} --init {tmp_path}",
    ):
        assert words in out, words
    (log,) = tmp_path.glob("*/*.log")
    assert f"log file       {log}" in out
    text = log.read_text()
    for words in ("System environment", "Config:", "Hooks will be executed", "Epoch(train)"):
        assert words in text and words not in out
    assert "learning rate  1.5e-3" in text
    loss = json.loads((tmp_path / "done.json").read_text())["loss"]
    assert loss > 0 and f"  loss        {loss:.4f}" in out


def test_verbose_shows_the_log(scenes, tmp_path, capfd):
    assert pretrain(scenes, tmp_path, flags=["-v"]) == 0
    out = capfd.readouterr().out
    for words in ("System environment", "Hooks will be executed", "Epoch(train)", "step 1/2"):
        assert words in out
    assert out.count("learning rate  1.5e-3") == 1


def test_the_rate_is_scaled_once_and_a_resumed_run_keeps_it(scenes, tmp_path, capfd):
    base = "auto_scale_lr.base_batch_size=8"

    def base_rate(epoch):
        state = read_checkpoint(tmp_path / f"epoch_{epoch}.pth")
        rates = {max(schedule["base_values"]) for schedule in state["param_schedulers"]}
        assert len(rates) == 1
        return rates.pop()

    assert pretrain(scenes, tmp_path, base, "auto_scale_lr.enable=True") == 0
    words = "learning rate  7.5e-4 (the config's 1.5e-3 for 8 images per step, scaled to 4)"
    assert words in capfd.readouterr().out
    assert base_rate(1) == pytest.approx(7.5e-4)
    more = [base, "train_cfg.max_epochs=2"]
    assert pretrain(scenes, tmp_path, *more, flags=["--resume"]) == 0
    out = capfd.readouterr().out
    assert "epoch_1.pth" in out and "optimizer.lr" not in out and "scaled to" not in out
    assert base_rate(2) == pytest.approx(7.5e-4)
    other = [base, "train_cfg.max_epochs=3", "train_dataloader.batch_size=2"]
    assert pretrain(scenes, tmp_path, *other, flags=["--resume"]) == 2
    assert "4 images per step in all" in capfd.readouterr().err


def test_the_floor_of_a_schedule_is_scaled_before_it_is_checked(scenes, tmp_path, capfd):
    floor = ["param_scheduler.1.eta_min=1e-4", "auto_scale_lr.base_batch_size=128"]
    assert pretrain(scenes, tmp_path / "scaled", *floor) == 0  # 1.5e-3 / 32 is below 1e-4
    above = ["param_scheduler.1.eta_min=3e-3", "auto_scale_lr.base_batch_size=128"]
    assert pretrain(scenes, tmp_path / "above", *above) == 2  # what the config says, not 1/32 of it
    assert "eta_min = 0.003: expected at most 0.0015," in capfd.readouterr().err
    kept = [*floor, "optim_wrapper.optimizer.lr=5e-5", "auto_scale_lr.enable=False"]
    assert pretrain(scenes, tmp_path / "written", *kept) == 2
    streams = capfd.readouterr()
    assert "param_scheduler[1].eta_min" in streams.err
    assert "5e-5 as written (auto_scale_lr.enable=False)" in streams.out


def test_bf16_falls_back_unless_it_was_asked_for(scenes, tmp_path, capfd, monkeypatch):
    monkeypatch.setattr(amp_optim_wrapper, "bf16_supported", lambda device_type: False)
    wrapper = "optim_wrapper.type=mimseg.AmpOptimWrapper"
    assert pretrain(scenes, tmp_path / "config", wrapper) == 0
    out = capfd.readouterr().out
    assert "no bfloat16 arithmetic, which the config asks for: training is in float32" in out
    assert pretrain(scenes, tmp_path / "flag", flags=["--amp"]) == 2
    assert "drop --amp" in capfd.readouterr().err


def test_a_teacher_without_a_network_fails_before_the_data_is_read(
    scenes, tmp_path, capfd, monkeypatch
):
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:1")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    teacher = dict(type="mimseg.TimmTeacher", model="vit_tiny_patch16_224", weights="hub")
    options = [f"model.teacher.{key}={value}" for key, value in teacher.items()]
    assert pretrain(scenes, tmp_path / "run", *options, "model.teacher.input_size=128") == 2
    streams = capfd.readouterr()
    assert "teacher.weights" in streams.err and "127.0.0.1:1" in streams.err
    assert len(streams.err.splitlines()) == 1
    assert "images in" not in streams.out


def test_the_next_command_works(scenes, tmp_path, capfd):
    options = [
        f"data_root={scenes}",
        "train_dataloader.batch_size=2",
        *(f"{split}_dataloader.num_workers=0" for split in ("train", "val", "test")),
        "train_dataloader.persistent_workers=False",
        "train_cfg.max_iters=2",
        "train_cfg.val_interval=2",
    ]
    assert train_main([SEG, "--work-dir", str(tmp_path), "--cfg-options", *options]) == 0
    out = capfd.readouterr().out
    assert "validation: mIoU " in out and "  result      mIoU " in out
    command = shlex.split(out.splitlines()[-1])
    assert command[:2] == ["mimseg", "test"]
    assert run_test(command[2:]) == 0
    out = capfd.readouterr().out
    metrics = json.loads((tmp_path / "test.json").read_text())["metrics"]
    for name, value in metrics.items():
        assert f"  {name:<18}{value:.4g}\n" in out


PRETRAINED = {
    "maskdistill/maskdistill_vit-base-p16_8xb256-amp-300e_in1k": "ade20k/maskdistill_vit-base_",
    "mae/mae_vit-base-p16_8xb512-amp-300e_in1k": "ade20k/vit-base_upernet",
    "dbot/dbot_vit-large-p16_32xb128-amp-2x800e_in1k": "ade20k/dbot_vit-large_",
    "dbot/dbot_vit-mini-p8_1xb64-2x20e_scenes": "scenes/upernet",
}


@pytest.mark.parametrize("name", PRETRAINED)
def test_the_next_command_of_a_pretraining_names_a_config_of_its_backbone(name):
    cfg = Config.fromfile(find_config(name))
    cfg.work_dir = "out/my run"
    config, flag, work_dir = shlex.split(next_command(cfg))[2:]
    assert config.startswith(PRETRAINED[name]) and (flag, work_dir) == ("--init", "out/my run")
    other = Config.fromfile(CONFIGS / f"{config}.py").model.backbone
    for key in ("arch", "patch_size"):
        assert other.get(key) == cfg.model.backbone.get(key)


def test_lines_come_by_time(monkeypatch, capsys):
    """A step takes 2 s, the first one 7 s more; a validation of 20 s is part of what is left."""
    now = 100.0
    monkeypatch.setattr(console.time, "monotonic", lambda: now)
    scalars = {f"train/{k}": HistoryBuffer() for k in ("loss", "time", "data_time", "lr")}
    runner = SimpleNamespace(iter=0, max_iters=200, train_loop=None)
    runner.message_hub = SimpleNamespace(log_scalars=scalars)
    hook = console.ConsoleHook(images=64)
    hook.before_train(runner)
    shown = []
    for step in range(200):
        wait = 7.0 if step == 0 else 0.5
        now += wait + (2.0 if step == 0 else 1.5)
        values = dict(loss=float(step), time=wait + 2.0 if step == 0 else 2.0, data_time=wait)
        for key, value in (values | dict(lr=1e-3)).items():
            scalars[f"train/{key}"].update(value)
        runner.iter = step
        hook.after_train_iter(runner, step)
        if line := capsys.readouterr().out:
            shown.append((step + 1, now, line))
    steps = [step for step, _, _ in shown]
    assert steps[0] == 1 and steps[-1] == 200
    gaps = [b - a for (_, a, _), (_, b, _) in zip(shown[:-2], shown[1:-1], strict=True)]
    assert min(gaps) >= 10 and max(gaps) <= 62 and gaps[0] < 12 and gaps[-1] >= 50
    assert "2.00 s per step  about 06:38 in all" in shown[0][2]
    assert "32 images/s" in shown[1][2] and "data wait 25%" in shown[1][2]
    step, time, line = shown[1]
    assert f"loss {sum(range(1, step)) / (step - 1):.4f}" in line  # the mean since the last line
    assert f"{console.clock(2.0 * (200 - step))} left" in line
    hook.after_train(runner)
    assert hook.loss == pytest.approx(sum(range(150, 200)) / 50)


def test_warnings_stay_and_noise_goes(tmp_path, capsys):
    from mmengine.logging import MMLogger

    name = f"test_{tmp_path.name}"
    logger = MMLogger.get_instance(name, log_file=str(tmp_path / "log"))
    console.hush(logger)
    logger.info("a table")
    logger.warning('"FileClient" will be deprecated in future.')
    logger.warning("the disk is nearly full")
    logger.info("backbone loaded from x")
    out = capsys.readouterr().out
    assert out == "warning: the disk is nearly full\nbackbone loaded from x\n"
    text = Path(tmp_path / "log").read_text()
    assert "a table" in text and "FileClient" in text


def test_metrics_over_nothing_are_not_numbers(capsys):
    measured = console.plain_metrics({"mIoU": float("nan"), "aAcc": 50.0, "text": "a"})
    assert measured == {"mIoU": None, "aAcc": 50.0}
    assert "no labeled pixel" in console.unmeasured(measured)["mIoU"]
    say_result(Config({"work_dir": "run"}), {"seconds": 1.0, "metrics": measured})
    out = capsys.readouterr().out
    assert "mIoU              not measured" in out and "not everything was measured" in out
    assert console.main_metrics(measured) == "mIoU not measured  aAcc 50"
