"""ImageNet recipes as a user runs them: fine-tuning, 448 px, a linear probe, and on to UperNet."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from PIL import Image

from mimseg.checkpoints.files import read_checkpoint
from mimseg.checkpoints.loader import load_backbone
from mimseg.cli.test import main as run_test
from mimseg.cli.train import main as train_main
from mimseg.data.checks.classes import check_classes
from mimseg.errors import UserError
from mimseg.registry import MODELS

ROOT = Path(__file__).parents[2] / "configs"
RECIPES = ROOT / "imagenet"
MAE = RECIPES / "mae_vit-base-p16_32xb32-amp-100e_in1k.py"
BEIT = RECIPES / "maskdistill_vit-base-p16_8xb128-amp-100e_in1k.py"
BEIT_448 = RECIPES / "dbot-clip_vit-huge-p14_32xb32-amp-10e_in1k-448px.py"
PROBE = RECIPES / "mae-linear_vit-base-p16_32xb512-amp-90e_in1k.py"
BEIT_PROBE = RECIPES / "maskdistill-linear_vit-base-p16_32xb512-amp-90e_in1k.py"
UPERNET = {
    "mae": ROOT / "ade20k/vit-base_upernet_8xb2-160k_ade20k-512x512.py",
    "beit": ROOT / "ade20k/vit-base-beit_upernet_8xb2-160k_ade20k-512x512.py",
}
CLASSES = 6  # top-5 accuracy wants as many
STUDENTS = {
    "mae": dict(),
    "beit": dict(
        mask_mode="token",
        pos_embed="none",
        rel_pos_bias="shared",
        layer_scale=0.1,
        weight_init="beit",
    ),
}


def write_images(root, names, count):
    """Noise about a colour a class, `count` images in each class folder."""
    rng = np.random.default_rng(0)
    for number, name in enumerate(names):
        (root / name).mkdir(parents=True)
        for index in range(count):
            colour = np.full(3, 40 * number)
            pixels = (colour + rng.integers(0, 40, (40, 48, 3))).astype(np.uint8)
            Image.fromarray(pixels).save(root / name / f"{index}.png")


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    root = tmp_path_factory.mktemp("data") / "images"
    names = [f"n{number:02}" for number in range(CLASSES)]
    write_images(root / "train", names, 2)
    write_images(root / "val", names, 1)
    return root


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory):
    """A checkpoint of a small pretrained student of either kind."""
    folder, files = tmp_path_factory.mktemp("pretrained"), {}
    for name, options in STUDENTS.items():
        torch.manual_seed(1)
        vit = MODELS.build(
            dict(type="mimseg.ViT", arch="mini", img_size=32, patch_size=8, **options)
        )
        vit.init_weights()
        for parameter in vit.parameters():  # tables and norms too
            parameter.data += 0.01 * torch.randn_like(parameter)
        files[name] = folder / f"{name}.pth"
        state = {f"backbone.{key}": value for key, value in vit.state_dict().items()}
        torch.save(dict(state_dict=state), files[name])
    return files


def options(images, side=32, classes=CLASSES, **more):
    """What makes a recipe small; all else is as written."""
    settings = {
        "data_root": images,
        "model.backbone.arch": "mini",
        "model.backbone.img_size": side,
        "model.backbone.patch_size": 8,
        "model.head.in_channels": 128,
        "model.head.num_classes": classes,
        "train_dataloader.batch_size": 6,
        "train_dataloader.dataset.pipeline.1.scale": side,
        "optim_wrapper.type": "OptimWrapper",  # not every CPU computes in bf16
        "param_scheduler.0.start_factor": 1.0,
        "train_cfg.max_epochs": 1,
    }
    for split in ("val", "test"):
        settings[f"{split}_dataloader.dataset.pipeline.1.scale"] = side
        settings[f"{split}_dataloader.dataset.pipeline.2.crop_size"] = side
    for split in ("train", "val", "test"):
        settings[f"{split}_dataloader.num_workers"] = 0
        settings[f"{split}_dataloader.persistent_workers"] = False
    settings |= more
    return ["--cfg-options", *(f"{key}={value}" for key, value in settings.items())]


def fine_tuning(images, **more):
    return options(images, **{"model.data_preprocessor.num_classes": CLASSES, **more})


def run(config, work_dir, settings, init=None):
    arguments = ["--init", str(init)] if init else []
    assert train_main([str(config), "--work-dir", str(work_dir), *arguments, *settings]) == 0
    return json.loads((work_dir / "done.json").read_text())


def state_of(work_dir):
    return read_checkpoint(work_dir / "epoch_1.pth")["state_dict"]


def backbone_of(state):
    start = "backbone."
    return {key.removeprefix(start): value for key, value in state.items() if key.startswith(start)}


@pytest.fixture(scope="module")
def fine_tuned(images, pretrained, tmp_path_factory):
    """Work dirs of two iterations of fine-tuning, and their records."""
    runs = {}
    for name, config in (("mae", MAE), ("beit", BEIT)):
        work_dir = tmp_path_factory.mktemp(name)
        runs[name] = work_dir, run(config, work_dir, fine_tuning(images), pretrained[name])
    return runs


@pytest.mark.parametrize("name", ["mae", "beit"])
def test_fine_tune(fine_tuned, pretrained, name):
    work_dir, record = fine_tuned[name]
    assert record["checkpoint"] == "epoch_1.pth"
    assert set(record["metrics"]) == {"accuracy/top1", "accuracy/top5"}
    log = next(work_dir.glob("*/*.log")).read_text()
    assert "missing: ln2.weight, ln2.bias" in log
    assert "ln1.weight, ln1.bias" in log.split("unexpected: ")[1].splitlines()[0]
    before = read_checkpoint(pretrained[name])["state_dict"]
    after = state_of(work_dir)
    if name == "beit":  # the shared table became one a block
        assert "resized: layers.0.attn.relative_position_bias_table" in log
        shared = before["backbone.rel_pos_bias.relative_position_bias_table"]
        before["backbone.layers.5.attn.relative_position_bias_table"] = shared
    for key in ("patch_embed.projection.weight", "layers.5.attn.qkv.weight", "layers.0.ln1.bias"):
        change = (after[f"backbone.{key}"] - before[f"backbone.{key}"]).abs().max()
        assert 0 < change < 0.02, key  # it learned, from there


def test_a_classifier_is_tested(fine_tuned, images):
    work_dir, record = fine_tuned["mae"]
    settings = ["--work-dir", str(work_dir), *fine_tuning(images)]
    assert run_test([str(MAE), str(work_dir), *settings]) == 0
    tested = json.loads((work_dir / "test.json").read_text())["metrics"]
    assert tested == record["metrics"]


def test_layer_decay_reaches_the_optimizer(fine_tuned):
    groups = read_checkpoint(fine_tuned["beit"][0] / "epoch_1.pth")["optimizer"]["param_groups"]
    scales = sorted({group["lr_scale"] for group in groups})
    assert scales == pytest.approx([0.65**power for power in range(7, -1, -1)])
    for group in groups:  # BEiT decays the tables, and nothing else that is no weight
        tables = [name for name in group["names"] if "relative_position_bias_table" in name]
        assert not tables or group["weight_decay"] == 0.05
        if any(name.endswith((".bias", ".gamma1.weight", "cls_token")) for name in group["names"]):
            assert group["weight_decay"] == 0


def test_448_starts_from_the_whole_classifier(fine_tuned, images, tmp_path):
    """Head and norm are those of 224 px, tables are resized; a rate of zero keeps them."""
    settings = {
        "load_from": fine_tuned["beit"][0] / "epoch_1.pth",
        "optim_wrapper.optimizer.lr": 0,
        "train_dataloader.batch_size": 12,
    }
    run(BEIT_448, tmp_path, fine_tuning(images, side=48, **settings))
    before, after = state_of(fine_tuned["beit"][0]), state_of(tmp_path)
    tables = [key for key in before if "relative_position_bias_table" in key]
    assert len(tables) == 6
    for key, value in before.items():
        if key in tables:
            assert (len(value), len(after[key])) == (7 * 7 + 3, 11 * 11 + 3)
            assert torch.equal(value[-3:], after[key][-3:])
        else:
            assert torch.equal(value, after[key]), key


@pytest.mark.parametrize(("name", "config"), [("mae", PROBE), ("beit", BEIT_PROBE)])
def test_linear_probe_leaves_the_backbone(images, pretrained, tmp_path, name, config):
    record = run(
        config, tmp_path, options(images, **{"model.neck.input_features": 128}), pretrained[name]
    )
    assert set(record["metrics"]) == {"accuracy/top1", "accuracy/top5"}
    before = backbone_of(read_checkpoint(pretrained[name])["state_dict"])
    state = state_of(tmp_path)
    after = backbone_of(state)
    assert set(after) - set(before) == ({"ln2.weight", "ln2.bias"} if name == "beit" else set())
    assert all(torch.equal(value, before[key]) for key, value in after.items() if key in before)
    assert state["neck.bn.num_batches_tracked"] == 2
    assert state["head.fc.bias"].abs().min() > 0  # starts at zero
    groups = read_checkpoint(tmp_path / "epoch_1.pth")["optimizer"]["param_groups"]
    assert [group.get("lars_exclude", False) for group in groups] == [False, True]


@pytest.mark.parametrize("name", ["mae", "beit"])
def test_fine_tuned_backbone_goes_into_upernet(fine_tuned, name):
    """Intermediate fine-tuning: --init takes the classifier, without its pooling norm."""
    backbone = Config.fromfile(UPERNET[name]).model.backbone
    backbone.update(arch="mini", img_size=64, patch_size=8, out_indices=(2, 3, 4, 5))
    vit = MODELS.build(backbone)
    vit.init_weights()
    report = load_backbone(vit, fine_tuned[name][0])
    assert report.unexpected == ("ln2.weight", "ln2.bias")
    new = ("gamma", "relative_position") if name == "mae" else ()  # as in the papers' recipes
    assert all(any(part in key for part in new) for key in report.missing)
    saved, loaded = backbone_of(state_of(fine_tuned[name][0])), vit.state_dict()
    kept = set(loaded) - set(report.missing) - set(report.resized)
    assert len(kept) > 60
    assert all(torch.equal(loaded[key], saved[key]) for key in kept)
    of_grid = "pos_embed" if name == "mae" else "relative_position_bias_table"
    assert report.resized and all(of_grid in key for key in report.resized)


def test_wrong_number_of_classes(images, tmp_path, capsys):
    settings = fine_tuning(images, classes=1000)
    assert train_main([str(MAE), "--work-dir", str(tmp_path), *settings]) == 2
    assert "model.data_preprocessor.num_classes = 6" in capsys.readouterr().err
    settings = options(images, classes=4, **{"model.data_preprocessor.num_classes": 4})
    assert train_main([str(MAE), "--work-dir", str(tmp_path), *settings]) == 2
    told = capsys.readouterr().err
    assert "model.head.num_classes = 4: expected 6, the number of class folders in" in told
    assert "model.head.num_classes=6 model.data_preprocessor.num_classes=6" in told
    assert run_test([str(MAE), str(tmp_path), "--work-dir", str(tmp_path), *settings]) == 2


def classifier(root, classes=3, **splits):
    given = {
        f"{split}_dataloader": dict(
            dataset=dict(type="CustomDataset", data_root=str(root), **values)
        )
        for split, values in splits.items()
    }
    return Config(
        dict(default_scope="mmpretrain", model=dict(head=dict(num_classes=classes)), **given)
    )


def test_class_folders_are_compared(tmp_path):
    write_images(tmp_path / "train", ["a", "b", "c"], 1)
    write_images(tmp_path / "val", ["a", "c", "d"], 1)
    train, val = dict(data_prefix="train"), dict(data_prefix="val")
    check_classes(classifier(tmp_path, train=train), ("train", "val"))
    check_classes(classifier(tmp_path, 9, train=train | dict(with_label=False)), ("train",))
    with pytest.raises(UserError, match="'b' is in one of them only"):
        check_classes(classifier(tmp_path, train=train, val=val), ("train", "val"))
    write_images(tmp_path / "fewer", ["a", "c"], 1)
    with pytest.raises(UserError, match="'b' is in one of them only"):
        fewer = dict(data_prefix="fewer")
        check_classes(classifier(tmp_path, train=train, val=fewer), ("train", "val"))
    with pytest.raises(UserError, match="it has no folders"):
        check_classes(classifier(tmp_path, train=dict(data_prefix="val/a")), ("train",))
    os.mkdir(tmp_path / "train" / ".hidden")  # mmpretrain takes it for a class
    with pytest.raises(UserError, match=r"expected 4.*\.hidden"):
        check_classes(classifier(tmp_path, train=train), ("train",))
    listed = dict(data_prefix="val", ann_file="list.txt")
    (tmp_path / "list.txt").write_text("a/0.png 0\nc/0.png 3\n")
    with pytest.raises(UserError, match=r"label below 3; one is 'c/0.png 3'"):
        check_classes(classifier(tmp_path, train=listed), ("train",))
    check_classes(classifier(tmp_path, 4, train=listed), ("train",))
    for odd in ("a/0.png\t0", "a/0.png 0\n\nc/0.png 1"):  # mmpretrain splits at one space
        (tmp_path / "list.txt").write_text(odd + "\n")
        with pytest.raises(UserError, match="an image, a space and a label below 4"):
            check_classes(classifier(tmp_path, 4, train=listed), ("train",))
    few = classifier(tmp_path, val=val)
    few.val_evaluator = dict(type="Accuracy", topk=(1, 5))
    with pytest.raises(UserError, match=r"val_evaluator.topk = \(1, 5\)"):
        check_classes(few, ("val",))
    few.val_evaluator = [dict(type="SingleLabelMetric"), dict(type="Accuracy", topk=(1, 5))]
    with pytest.raises(UserError, match=r"--cfg-options val_evaluator.1.topk=1"):
        check_classes(few, ("val",))
    few.merge_from_dict({"val_evaluator.1.topk": 1})
    check_classes(few, ("val",))
    few.data_preprocessor = dict(num_classes=1000)  # mmengine puts it into the model
    with pytest.raises(UserError, match="^data_preprocessor.num_classes = 1000: expected 3"):
        check_classes(few, ("val",))
