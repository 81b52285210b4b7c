"""`mimseg pretrain`: a folder in, a backbone out."""

import shutil

import pytest
import torch
from mmengine.config import Config
from PIL import Image

from mimseg.cli import main
from mimseg.errors import UserError
from mimseg.recipes.pretrain import IMAGENET, Request, compose, count_images


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """12 images in two formats, and files that are none."""
    folder = tmp_path_factory.mktemp("photos")
    (folder / "trip").mkdir()
    for index in range(12):
        image = Image.effect_noise((40, 30), 40 + index).convert("RGB")
        name = f"{index}.png" if index > 9 else f"{index}.jpg"
        image.save(folder / ("trip" if index % 2 else "") / name)
    (folder / "notes.txt").touch()
    (folder / "raw.heic").touch()
    (folder / ".hidden.jpg").touch()
    return folder


def test_files_are_counted_by_format(photos):
    count = count_images(photos)
    assert count.total == 12
    assert count.text() == "12 (10 .jpg, 2 .png); skipped: 1 .heic, 1 .txt"


def test_a_folder_without_images_is_an_error(tmp_path):
    with pytest.raises(UserError, match="it is empty"):
        count_images(tmp_path)
    (tmp_path / "a.txt").touch()
    with pytest.raises(UserError, match="it holds 1 .txt"):
        count_images(tmp_path)
    with pytest.raises(UserError, match="existing folder"):
        count_images(tmp_path / "no")


def test_the_dry_run_prints_the_plan_and_writes_nothing(photos, tmp_path, capsys):
    out = tmp_path / "out"
    argv = ["pretrain", str(photos), "--epochs", "3", "--batch", "4", "--gpus", "0"]
    assert main([*argv, "--out", str(out), "--dry-run"]) == 0
    text = capsys.readouterr().out
    for words in (
        "images   12 (10 .jpg, 2 .png); skipped: 1 .heic, 1 .txt",
        "recipe   mae/mae_vit-base-p16_8xb512-amp-300e_in1k",
        "student  ViT-base/16, 224 px",
        "length   3 epochs, 9 steps, 4 images per step on the CPU",
        "for 4096 images per step, scaled to 4",
        "9 steps are few",
    ):
        assert words in text
    assert not out.exists()


def test_a_backbone_comes_out_and_is_resumed(photos, tmp_path, capsys):
    out = tmp_path / "out"
    argv = ["pretrain", str(photos), "--arch", "mini", "--batch", "6", "--out", str(out)]
    assert main([*argv, "--epochs", "1", "--gpus", "0"]) == 0, capsys.readouterr().err
    cfg = Config.fromfile(out / "config.py")
    assert cfg.train_cfg.max_epochs == 1 and cfg.model.backbone.arch == "mini"
    assert cfg.optim_wrapper.optimizer.lr == pytest.approx(2.4e-3 * 6 / 4096)  # scaled once
    assert cfg.auto_scale_lr.base_batch_size == 6
    assert "learning rate  3.52e-6" in capsys.readouterr().out
    (checkpoint,) = out.glob("*.pth")
    weights = torch.load(checkpoint, weights_only=False)["state_dict"]
    assert weights["backbone.layers.0.attn.qkv.weight"].shape == (384, 128)
    assert main([*argv, "--epochs", "1", "--gpus", "0"]) == 2  # it holds a run
    assert "--resume" in capsys.readouterr().err
    assert main([*argv, "--epochs", "2", "--gpus", "0", "--resume"]) in (0, 2)
    shutil.rmtree(out)


def composed(photos, **options):
    return compose(Request(photos, batch=4, **options))


def test_a_recipe_of_the_size_is_taken_where_there_is_one(photos):
    assert "vit-large" in composed(photos, method="maskdistill", arch="large").recipe
    other = composed(photos, method="maskdistill", arch="tiny")
    assert "vit-base" in other.recipe and other.cfg.model.backbone.arch == "tiny"
    assert "no recipe for a ViT-tiny" in other.notes[0]


def test_more_images_than_imagenet_mean_fewer_epochs(photos, monkeypatch):
    from mimseg.recipes import pretrain

    assert composed(photos).epochs == 300
    count = pretrain.ImageCount({".jpg": 10 * IMAGENET}, {})
    monkeypatch.setattr(pretrain, "count_images", lambda folder: count)
    assert composed(photos).epochs == 30


def test_the_schedule_is_stretched_to_the_length(photos):
    cfg = composed(photos, method="maskdistill", epochs=30).cfg
    warmup, decay = cfg.param_scheduler
    assert (warmup.begin, warmup.end, decay.begin, decay.end) == (0, 3, 3, 90)
    assert decay.T_max == 87 and not decay.by_epoch
    for epochs in (1, 3):  # warm-ups of none and of one step would keep the rate at their start
        (only,) = composed(photos, method="mae", epochs=epochs).cfg.param_scheduler
        assert only.type == "CosineAnnealingLR" and only.end == 3 * epochs


def test_the_teacher_is_replaced(photos):
    model = composed(photos, method="maskdistill", teacher="dino").cfg.model
    assert model.teacher.model == "vit_base_patch16_224.dino"
    model = composed(photos, method="maskdistill", teacher="dinov2").cfg.model
    assert model.teacher.input_size == 196  # 14 patches of 14 px
    clip = composed(photos, method="eva", teacher="clip").cfg.model.teacher
    assert clip.output == "proj"  # the recipe's own choice stays
    relations = composed(photos, method="tinymim", teacher="dino").cfg.model
    assert relations.backbone.last_block_heads == 12
    assert relations.normalization.layer == 8  # the 9th of 12 blocks


@pytest.mark.parametrize(
    "options, words",
    [
        (dict(method="mea"), "one of .*'mae'"),
        (dict(arch="enormous"), "one of .*'base'"),
        (dict(teacher="clip"), "mae has a teacher of its own kind"),
        (dict(method="maskdistill", teacher="none"), "learns from a network"),
        (dict(method="maskdistill", teacher="no/file"), "no/file is not there"),
        (dict(epochs=0), "at least 1"),
        (dict(gpus=8), "12 images|fewer --gpus"),
    ],
)
def test_mistakes_name_the_flag_and_the_fix(photos, options, words):
    with pytest.raises(UserError, match=words):
        composed(photos, **options)
