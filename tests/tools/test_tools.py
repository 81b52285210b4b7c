"""tools/train.py and tools/test.py, used as a user would, on generated scenes."""

import json
import shutil
import subprocess
import sys
from argparse import Namespace
from pathlib import Path

import pytest
import torch

from mimseg.checkpoints.checksum import write_checksum
from mimseg.checkpoints.files import read_checkpoint
from mimseg.cli.test import main as run_test
from mimseg.cli.train import main as train_main

ROOT = Path(__file__).parents[2]
DBOT = str(ROOT / "configs/dbot/dbot_vit-mini-p8_1xb64-2x20e_scenes.py")
MAE = str(ROOT / "configs/mae/mae_vit-mini-p8_1xb64-40e_scenes.py")
SEG = str(ROOT / "configs/scenes/upernet_vit-mini-p8_1xb8-600i_scenes-64x64.py")
DET = str(ROOT / "configs/scenes/mask-rcnn_vit-mini-p8_1xb8-600i_scenes-64x64.py")
PRETRAIN = [
    "train_dataloader.batch_size=4",
    "train_dataloader.num_workers=0",
    "train_dataloader.persistent_workers=False",
    "param_scheduler.1.end=2",
    "train_cfg.max_epochs=1",
]
ELEVEN = "(" + ",".join("abcdefghijk") + ")"
DENSE = [
    "train_dataloader.batch_size=2",
    "train_dataloader.num_workers=0",
    "train_dataloader.persistent_workers=False",
    "val_dataloader.num_workers=0",
    "test_dataloader.num_workers=0",
    "train_cfg.max_iters=3",
    "train_cfg.val_interval=3",
]


@pytest.fixture(scope="module")
def pretrained(scenes, tmp_path_factory):
    """dBOT in two stages, by the command line."""
    work_dir = tmp_path_factory.mktemp("dbot")
    command = [sys.executable, ROOT / "tools/train.py", DBOT, "--work-dir", work_dir]
    options = ["--cfg-options", f"data_root={scenes}/unlabelled", *PRETRAIN]
    done = subprocess.run([*command, *options], capture_output=True, text=True, cwd=work_dir)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return work_dir


def teacher_of(path):
    state = read_checkpoint(path)["state_dict"]
    key = "teachers.teacher.backbone."
    return {name[len(key) :]: value for name, value in state.items() if name.startswith(key)}


def student_of(path):
    state = read_checkpoint(path)["state_dict"]
    return {n.removeprefix("backbone."): v for n, v in state.items() if n.startswith("backbone.")}


def test_stages_hand_the_student_over(pretrained):
    first, second = (pretrained / f"stage{n}/epoch_1.pth" for n in (1, 2))
    record = json.loads((pretrained / "done.json").read_text())
    assert record["checkpoint"] == "stage2/epoch_1.pth"
    student, teacher = student_of(first), teacher_of(second)
    assert len(teacher) == len(student) > 70
    assert all(torch.equal(value, student[name]) for name, value in teacher.items())
    start = teacher_of(first)  # the first student's initial weights
    drawn = ("patch_embed.projection.weight", "layers.0.attn.qkv.weight", "cls_token")
    for name in drawn:
        assert not torch.equal(start[name], student[name])  # it learned
        change = (student_of(second)[name] - start[name]).abs().mean()
        assert change > 0.5 * start[name].std()  # the second student started elsewhere


def test_a_finished_run_is_left_alone(pretrained, scenes, capsys):
    before = (pretrained / "stage2/epoch_1.pth").stat().st_mtime_ns
    options = ["--cfg-options", f"data_root={scenes}/unlabelled", *PRETRAIN]
    assert train_main([DBOT, "--work-dir", str(pretrained), "--resume", *options]) == 0
    assert "finished" in capsys.readouterr().out
    assert (pretrained / "stage2/epoch_1.pth").stat().st_mtime_ns == before


def test_moments_live_on_where_asked(pretrained, scenes, tmp_path):
    options = [f"data_root={scenes}/unlabelled", *PRETRAIN, "stages.1.optimizer=stage1"]
    assert train_main([DBOT, "--work-dir", str(tmp_path), "--cfg-options", *options]) == 0
    steps = []
    for work_dir in (pretrained, tmp_path):
        state = read_checkpoint(work_dir / "stage2/epoch_1.pth")["optimizer"]["state"]
        steps.append({int(moments["step"]) for moments in state.values()})
    assert steps == [{2}, {4}]  # two steps a stage


def test_a_second_run_in_the_same_folder_is_refused(pretrained, scenes, capsys):
    assert train_main([DBOT, "--work-dir", str(pretrained)]) == 2
    assert "--resume" in capsys.readouterr().err


def test_a_resumed_run_has_the_same_teacher_and_goes_on(scenes, tmp_path):
    options = [f"data_root={scenes}/unlabelled", *PRETRAIN, "train_cfg.max_epochs=2"]
    command = [DBOT, "--work-dir", str(tmp_path), "--cfg-options", *options]
    assert train_main(command) == 0
    shutil.rmtree(tmp_path / "stage2")  # as if killed in stage 1's second epoch
    for name in ("done.json", "stage1/done.json", "stage1/epoch_2.pth"):
        (tmp_path / name).unlink()
    torch.manual_seed(5)
    assert train_main([*command, "--resume"]) == 0
    before, after = (teacher_of(tmp_path / f"stage1/epoch_{n}.pth") for n in (1, 2))
    assert all(torch.equal(before[name], value) for name, value in after.items())
    steps = [
        int(read_checkpoint(tmp_path / f"stage1/epoch_{n}.pth")["state_dict"]["masking.step"])
        for n in (1, 2)
    ]
    assert steps == [2, 4]  # eight images, batches of four: the masks go on, none comes twice


@pytest.mark.parametrize(
    ("config", "metric"), [(SEG, "mIoU"), (DET, "coco/bbox_mAP")], ids=["upernet", "mask-rcnn"]
)
def test_fine_tune_and_test(pretrained, scenes, tmp_path, config, metric, capsys):
    options = ["--cfg-options", f"data_root={scenes}", *DENSE]
    command = [config, "--work-dir", str(tmp_path)]
    assert train_main([*command, "--init", str(pretrained), *options]) == 0, capsys.readouterr()
    record = json.loads((tmp_path / "done.json").read_text())
    assert record["checkpoint"] == "iter_3.pth"
    log = next(tmp_path.glob("*/*.log")).read_text()
    assert "layers (6)" in log
    assert run_test([config, str(tmp_path), "--work-dir", str(tmp_path), *options]) == 0
    tested = json.loads((tmp_path / "test.json").read_text())["metrics"]
    assert set(tested) == set(record["metrics"])
    assert metric in tested or config == DET  # mmdet reports nothing where nothing was found


def test_weights_are_the_files_after_the_runner_initialised(pretrained, scenes, tmp_path):
    """mmengine's recursion must not draw anew what was loaded, in UperNet and in Mask R-CNN."""
    from mmengine.config import Config

    from mimseg.engine.prepare import merge_options, use_init
    from mimseg.engine.run import build_runner

    saved = student_of(pretrained / "stage2/epoch_1.pth")
    for config in (SEG, DET):
        cfg = Config.fromfile(config)
        merge_options(cfg, {"data_root": str(scenes)})
        cfg.work_dir = str(tmp_path)
        use_init(cfg, str(pretrained))
        runner = build_runner(cfg)
        runner._init_model_weights()
        weights = runner.model.backbone.state_dict()
        same = [n for n in weights if n in saved and torch.equal(weights[n], saved[n])]
        assert set(weights) == set(same), config


def test_load_from_starts_with_the_whole_model(pretrained, scenes, tmp_path, capsys):
    """Backbone and head go on; a head of other classes is drawn anew and named."""
    still = ["--cfg-options", f"data_root={scenes}", *DENSE, "optim_wrapper.optimizer.lr=0"]
    still += ["param_scheduler.1.eta_min=0"]
    first, second, third = (tmp_path / name for name in ("first", "second", "third"))
    assert train_main([SEG, "--work-dir", str(first), "--init", str(pretrained), *still]) == 0
    before = read_checkpoint(first / "iter_3.pth")["state_dict"]
    argv = [SEG, "--work-dir", str(second), *still, f"load_from={first}"]
    assert train_main([*argv, "randomness.seed=7"]) == 0
    after = read_checkpoint(second / "iter_3.pth")["state_dict"]
    weights = [name for name in before if "running_" not in name and "batches" not in name]
    assert [n for n in weights if not torch.equal(before[n], after[n])] == []

    classes = [
        f"{split}_dataloader.dataset.metainfo.classes={ELEVEN}" for split in ("train", "val")
    ]
    other = [*argv[3:], *classes, "model.decode_head.num_classes=11"]
    assert train_main([*argv[:2], str(third), *other]) == 0, capsys.readouterr()
    log = next(third.glob("*/*.log")).read_text()
    assert "other shapes, left as drawn: 2: decode_head.conv_seg.bias, decode_head.conv_seg" in log
    after = read_checkpoint(third / "iter_3.pth")["state_dict"]
    assert torch.equal(after["backbone.pos_embed"], before["backbone.pos_embed"])

    sick = before | {"decode_head.conv_seg.bias": torch.full((10,), torch.nan)}
    torch.save({"state_dict": sick}, tmp_path / "sick.pth")
    alone = {n.removeprefix("backbone."): v for n, v in before.items() if n.startswith("backbone.")}
    torch.save(alone, tmp_path / "alone.pth")
    torch.save({"state_dict": before, "args": Namespace(lr=1)}, tmp_path / "code.pth")
    argv = [SEG, "--work-dir", str(tmp_path / "new"), *still]
    refused = {"alone.pth": "--init", "code.pth": "--trust", "no.pth": "no.pth", "sick.pth": "NaN"}
    for file, told in refused.items():
        assert train_main([*argv, f"load_from={tmp_path / file}"]) == 2
        error = capsys.readouterr().err
        assert "load_from" in error and told in error
    assert train_main([*argv, f"load_from={tmp_path / 'code.pth'}", "--trust"]) == 0
    command = [SEG, "--work-dir", str(tmp_path / "newer"), *still]
    command += ["--init", str(tmp_path / "code.pth")]
    assert train_main(command) == 2 and "--trust" in capsys.readouterr().err
    assert train_main([*command, "--trust"]) == 0
    for options in ([f"load_from={first}", "--init", str(first)], ["--trust"]):
        assert train_main([*argv, *options]) == 2
        assert f"error: {options[-2] if len(options) > 1 else '--trust'}" in capsys.readouterr().err


def test_a_work_dir_whose_checkpoint_holds_code(pretrained, scenes, tmp_path, capsys):
    """It is named like another; the flag that trusts a file trusts it."""
    options = ["--cfg-options", f"data_root={scenes}", *DENSE]
    argv = [SEG, "--work-dir", str(tmp_path / "run"), "--init", str(pretrained), *options]
    assert train_main(argv) == 0
    state = read_checkpoint(path := tmp_path / "run/iter_3.pth")
    torch.save(state | {"args": Namespace(lr=1)}, path)
    write_checksum(path)
    again = [SEG, "--work-dir", str(tmp_path / "new"), "--init", str(tmp_path / "run"), *options]
    resume = [*argv[:3], "--resume", *options, "train_cfg.max_iters=4"]
    for command in (again, resume):
        assert train_main(command) == 2 and "--trust" in capsys.readouterr().err
        assert train_main([*command, "--trust"]) == 0
    test = [SEG, str(tmp_path / "run/iter_3.pth"), "--work-dir", str(tmp_path / "test"), *options]
    assert run_test(test) == 2 and "--trust" in capsys.readouterr().err
    assert run_test([*test, "--trust"]) == 0


def test_load_from_is_not_what_is_tested(scenes, tmp_path):
    options = ["--cfg-options", f"data_root={scenes}", *DENSE]
    for name, seed in (("a", 1), ("b", 2)):
        argv = [SEG, "--work-dir", str(tmp_path / name), *options, f"randomness.seed={seed}"]
        assert train_main(argv) == 0
    test = [SEG, str(tmp_path / "a"), "--work-dir", str(tmp_path / "a"), *options]
    found = []
    for extra in ([], [f"load_from={tmp_path / 'b'}"]):
        assert run_test([*test, *extra]) == 0
        found.append(json.loads((tmp_path / "a/test.json").read_text())["metrics"])
    assert found[0] == found[1]


def test_a_pretraining_takes_no_load_from(pretrained, scenes, tmp_path, capsys):
    argv = [DBOT, "--work-dir", str(tmp_path), "--cfg-options", f"data_root={scenes}/unlabelled"]
    assert train_main([*argv, *PRETRAIN, f"load_from={pretrained / 'stage2'}"]) == 2
    error = capsys.readouterr().err
    assert "load_from" in error and "--init starts the student" in error


def test_amp_selects_our_wrapper(monkeypatch):
    from mmengine.config import Config

    from mimseg.engine.prepare import use_amp

    cfg = Config.fromfile(MAE)
    use_amp(cfg)
    assert cfg.optim_wrapper.type == "mimseg.AmpOptimWrapper"
    assert cfg.optim_wrapper.optimizer.type == "AdamW"


SMALL = "train_dataloader.batch_size=4"
BAD = [
    (["nowhere.py"], "a config file"),
    ([MAE, "--cfg-options", "trian_cfg.max_epochs=1"], "did you mean train_cfg"),
    ([MAE, "--cfg-options", "data_root=/no/such/folder"], "/no/such/folder"),
    ([MAE, "--cfg-options", "model.head.type=mimseg.DecoderHaed"], "did you mean mimseg.Decoder"),
    ([MAE, "--cfg-options", "model.head.type=mmpretrain.Haed"], "Haed"),
    ([MAE, "--cfg-options", "model.masking.ratio=1.5"], "masking.ratio"),
    ([MAE, "--cfg-options", "train_dataloader.dataset.type=mmpretrain.Folderr", SMALL], "Folderr"),
    ([MAE, "--cfg-options", "optim_wrapper.optimizer.type=AdmW", SMALL], "AdmW"),
    ([MAE, "--cfg-options", "train_dataloader.batch_size=9"], "train_dataloader.batch_size = 9"),
    ([MAE, "--cfg-options", "compile=True"], "compile"),
    ([DBOT, "--cfg-options", "stages.1.teacher=stage7"], "stages[1].teacher"),
    ([DBOT, "--cfg-options", "train_cfg.max_epochs=0"], "stages[0]: train_cfg.max_epochs"),
    ([DBOT, "--cfg-options", "stages.1.options.modle.x=1"], "stages[1].options"),
    ([DBOT, "--cfg-options", "stages.1.teacher_options.input_size=72"], "grid 9x9"),
    ([SEG, "--init", "/no/such/file.pth"], "/no/such/file.pth"),
    (
        [SEG, "--cfg-options", *DENSE, "train_dataloader.batch_size=1"],
        "train_dataloader.batch_size = 1: expected 2 or more images",
    ),
]


@pytest.mark.parametrize(("argv", "message"), BAD, ids=[message for _, message in BAD])
def test_mistakes_are_told_in_one_line(argv, message, scenes, tmp_path, capsys):
    if "data_root" not in " ".join(argv):
        root = str(scenes) + ("" if argv[0] == SEG else "/unlabelled")
        if "--cfg-options" not in argv:
            argv = [*argv, "--cfg-options"]
        argv = [*argv, f"data_root={root}"] if argv[0] != "nowhere.py" else argv[:1]
    assert train_main([*argv, "--work-dir", str(tmp_path)]) == 2
    error = capsys.readouterr().err.strip()
    assert message in error and error.startswith("error:")


def test_training_needs_no_test_split_and_testing_no_other(pretrained, scenes, tmp_path, capsys):
    options = ["--cfg-options", f"data_root={scenes}", *DENSE]
    hidden = scenes / "images/test"
    hidden.rename(scenes / "hidden")
    try:
        assert train_main([SEG, "--work-dir", str(tmp_path), *options]) == 0
        assert run_test([SEG, str(tmp_path), "--work-dir", str(tmp_path), *options]) == 2
        assert "test_dataloader" in capsys.readouterr().err
    finally:
        (scenes / "hidden").rename(hidden)


def test_a_checkpoint_to_test_that_is_not_there(scenes, tmp_path, capsys):
    argv = [SEG, str(tmp_path / "no"), "--work-dir", str(tmp_path)]
    assert run_test([*argv, "--cfg-options", f"data_root={scenes}", *DENSE]) == 2
    assert capsys.readouterr().err.startswith(f"error: checkpoint = '{tmp_path / 'no'}'")


def test_an_image_that_does_not_open_is_told_from_a_loader_process(scenes, tmp_path, capsys):
    for path in (scenes / "unlabelled").iterdir():
        (tmp_path / path.name).write_bytes(b"no image")
    argv = [MAE, "--work-dir", str(tmp_path / "run"), "--cfg-options", f"data_root={tmp_path}"]
    assert train_main([*argv, *PRETRAIN, "train_dataloader.num_workers=1"]) == 2
    error = capsys.readouterr().err.strip()
    assert error.startswith("error:") and "Traceback" not in error and ".jpg" in error


def test_a_resumed_run_without_its_teacher_is_refused(scenes, tmp_path, capsys):
    options = ["--cfg-options", f"data_root={scenes}/unlabelled", *PRETRAIN]
    first, other = DBOT, MAE  # MAE's checkpoint has no teacher of dBOT's kind
    assert train_main([other, "--work-dir", str(tmp_path / "stage1"), *options]) == 0
    command = [first, "--work-dir", str(tmp_path), "--resume", *options]
    assert train_main([*command, "train_cfg.max_epochs=2"]) == 2
    assert "teacher" in capsys.readouterr().err


def test_a_work_dir_that_cannot_be_written(tmp_path, capsys):
    blocker = tmp_path / "file"
    blocker.write_text("")
    assert train_main([MAE, "--work-dir", str(blocker / "run")]) == 2
    assert "--work-dir" in capsys.readouterr().err


def test_a_checkpoint_of_another_shape(pretrained, scenes, tmp_path, capsys):
    options = ["--cfg-options", f"data_root={scenes}", "model.backbone.arch=tiny", *DENSE]
    options += ["model.neck.in_channels=192", "model.decode_head.in_channels=[192,192,192,192]"]
    argv = [SEG, "--work-dir", str(tmp_path), "--init", str(pretrained)]
    assert train_main([*argv, *options]) == 2
    error = capsys.readouterr().err
    assert "--init" in error and "128" in error and "192" in error
