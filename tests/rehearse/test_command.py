"""mimseg train CONFIG --rehearse on generated data, and what it finds."""

import json
import shutil
import tempfile
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config
from PIL import Image

from mimseg.cli.scenes import main as make_scenes
from mimseg.cli.train import main as train_main
from mimseg.registry import MODELS
from mimseg.rehearse.config import rehearse

ROOT = Path(__file__).parents[2]
MAE = "mae/mae_vit-mini-p8_1xb64-40e_scenes"
DBOT = "dbot/dbot_vit-mini-p8_1xb64-2x20e_scenes"
UPERNET = "scenes/upernet_vit-mini-p8_1xb8-600i_scenes-64x64"
MASK_RCNN = "scenes/mask-rcnn_vit-mini-p8_1xb8-600i_scenes-64x64"
ADE20K = "ade20k/vit-base_upernet_8xb2-160k_ade20k-512x512"
VITDET = "coco/mask-rcnn_vit-base-vitdet_16xb4-100e_coco"
IMAGENET = "imagenet/mae_vit-base-p16_32xb32-amp-100e_in1k"
CLASSES = 6


@pytest.fixture(scope="module", autouse=True)
def unformatted_configs():
    """A run formats its config for the log and files five times, half of a short run's work."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("yapf.yapflib.yapf_api.FormatCode", lambda text, **_: (text, False))
        yield


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    out = tmp_path_factory.mktemp("data") / "scenes"
    counts = ["--train", "6", "--val", "3", "--test", "3", "--unlabelled", "9"]
    assert make_scenes([str(out), *counts, "--workers", "1"]) == 0
    return out


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """Class folders of noise."""
    root, rng = tmp_path_factory.mktemp("data") / "images", np.random.default_rng(0)
    for split in ("train", "val"):
        for number in range(CLASSES):
            (root / split / f"n{number}").mkdir(parents=True)
            pixels = rng.integers(0, 256, (40, 48, 3), np.uint8)
            Image.fromarray(pixels).save(root / split / f"n{number}" / "0.png")
    return root


@pytest.fixture
def rehearsed(tmp_path, monkeypatch, capsys):
    """Runs the command; returns its exit code, what it said at its end, and its error line."""
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))
    monkeypatch.chdir(tmp_path)

    def run(config, *flags, **options):
        settings = [f"{key.replace('__', '.')}={value}" for key, value in options.items()]
        capsys.readouterr()
        code = train_main([config, "--rehearse", *flags, "--cfg-options", *settings])
        assert not list(scratch.glob("mimseg*"))  # nothing is kept
        assert not (tmp_path / "work_dirs").exists()
        out, err = capsys.readouterr()
        return code, out[out.rfind("\nrehearsed") :] if code == 0 else "", err

    return run


def test_pretraining(rehearsed, scenes):
    code, said, _ = rehearsed(MAE, data_root=scenes / "unlabelled")
    assert code == 0
    assert "data: train checked" in said and "their channels fit" in said
    assert "training: 2 steps of 2 images, loss " in said
    assert "checkpoint: epoch_1.pth written and loaded back" in said
    assert "validation" not in said and said.rstrip().endswith("nothing was kept")


def test_stages(rehearsed, scenes):
    code, said, _ = rehearsed(DBOT, data_root=scenes / "unlabelled")
    assert code == 0
    for stage in ("stage1", "stage2"):
        assert f"{stage}: data: train checked" in said
        assert f"{stage}: training: 2 steps of 2 images" in said
    assert "checkpoint: stage2/epoch_1.pth written" in said


@pytest.mark.parametrize(
    ("config", "metric"), [(UPERNET, "mIoU"), (MASK_RCNN, "coco/bbox_mAP")], ids=["seg", "det"]
)
def test_dense(rehearsed, scenes, config, metric):
    code, said, _ = rehearsed(config, data_root=scenes)
    assert code == 0
    assert "data: train, val, test checked" in said
    for line in ("validation", "test"):
        assert metric in said.split(f"  {line}: up to 2 images, ")[1].splitlines()[0]
    assert "checkpoint: iter_2.pth written" in said


def save_backbone(path, **options):
    vit = MODELS.build(dict(type="mimseg.ViT", img_size=224, patch_size=16, **options))
    torch.save({"state_dict": {f"backbone.{k}": v for k, v in vit.state_dict().items()}}, path)
    return str(path)


def test_full_size_recipe_with_a_checkpoint(rehearsed, scenes, tmp_path):
    """ADE20K's, kept by --work-dir; the checkpoint is loaded at full size, or refused there."""
    init = save_backbone(tmp_path / "base.pth", arch="base")
    flags = ["--init", init, "--work-dir", str(tmp_path / "kept")]
    code, said, _ = rehearsed(ADE20K, *flags, data_root=scenes)
    assert code == 0
    assert f"{init} fits at full size: 148 tensors loaded, 1 resized, 36 missing" in said
    assert json.loads((tmp_path / "kept/done.json").read_text())["checkpoint"] == "iter_2.pth"
    assert (tmp_path / "kept/iter_2.pth").stat().st_size < 20e6
    assert f"all of it is in {tmp_path / 'kept'}" in said
    code, _, error = rehearsed(ADE20K, *flags, data_root=scenes)
    assert code == 2 and "--work-dir" in error  # it holds that run
    wrong = save_backbone(tmp_path / "small.pth", arch="small")
    code, _, error = rehearsed(ADE20K, "--init", wrong, data_root=scenes)
    assert code == 2 and "error: --init" in error and "embed_dims to 384" in error


@pytest.fixture
def mine(tmp_path):
    """Writes a config of one's own that is based on a shipped one."""

    def write(base, text):
        path = tmp_path / "mine.py"
        path.write_text(f"_base_ = [{str(ROOT / 'configs' / base)!r} + '.py']\n{text}\n")
        return str(path)

    return write


def test_windowed_detector_on_other_classes(rehearsed, scenes, mine):
    """ViTDet's categories are COCO's: found before anything is built; then it runs."""
    data = ""
    for split, name, part in (
        ("train", "training", "train"),
        ("val", "validation", "val"),
        ("test", "validation", "val"),
    ):
        annotations = f"annotations/instances_{part}.json"
        dataset = dict(ann_file=annotations, data_prefix=dict(img=f"images/{name}"))
        data += f"{split}_dataloader = dict(dataset={dataset | dict(data_root=str(scenes))})\n"
        if split != "train":
            data += f"{split}_evaluator = dict(ann_file={str(scenes / annotations)!r})\n"
    code, _, error = rehearsed(mine(VITDET, data), data_root=scenes)
    assert code == 2 and "rehearsal failed: checking the data" in error
    assert "8 are missing, the first 'striped disc'" in error
    names = tuple(json.loads((scenes / "classes.json").read_text())["things"])
    data = data.replace("dataset={", f"dataset={{'metainfo': dict(classes={names}), ")
    code, _, error = rehearsed(mine(VITDET, data), data_root=scenes)
    assert code == 2 and "num_classes = 80: expected 8" in error
    heads = {f"model__roi_head__{head}_head__num_classes": 8 for head in ("bbox", "mask")}
    code, said, _ = rehearsed(mine(VITDET, data), data_root=scenes, **heads)
    assert code == 0 and "test: up to 2 images, coco/bbox_mAP" in said


def test_classification(rehearsed, images):
    options = dict(data_root=images, model__data_preprocessor__num_classes=CLASSES)
    code, said, _ = rehearsed(IMAGENET, **options, model__head__num_classes=CLASSES)
    assert code == 0
    assert "validation: up to 2 images, accuracy/top1, accuracy/top5 measured" in said
    code, _, error = rehearsed(IMAGENET, **options)
    assert code == 2 and "num_classes = 6: expected 1000" in error


def test_a_wrong_label_map(rehearsed, scenes, tmp_path):
    """In the last map, which no step reads."""
    data = tmp_path / "scenes"
    shutil.copytree(scenes, data)
    path = max((data / "annotations/training").iterdir())
    labels = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    labels[0, 0] = 77
    cv2.imwrite(str(path), labels)
    code, _, error = rehearsed(UPERNET, data_root=data)
    assert code == 2
    assert f"{path} has 77" in error and "metainfo.classes" in error


def test_parts_that_do_not_fit(rehearsed, scenes):
    """The error has the config's own numbers."""
    code, _, error = rehearsed(ADE20K, data_root=scenes, model__neck__in_channels=1024)
    assert code == 2
    assert "building the networks at full size" in error
    assert "Conv2d(768, " in error and "does not take [1, 1024, 128, 128]" in error


def test_a_teacher_from_a_file(rehearsed, scenes, tmp_path, mine):
    net = dict(type="mimseg.ViT", arch="mini", img_size=64, patch_size=8)

    def config(init):
        teacher = dict(type="mimseg.ViTTeacher", init=str(init), backbone=net, _delete_=True)
        return mine(MAE, f"model = dict(teacher={teacher})")

    options = dict(data_root=scenes / "unlabelled")
    code, _, error = rehearsed(config(tmp_path / "no.pth"), **options)
    assert code == 2 and "teacher.init" in error and "no.pth" in error
    code, _, error = rehearsed(config(save_backbone(tmp_path / "t.pth", arch="mini")), **options)
    assert code == 2 and "patch" in error  # of 16 pixels, where the config has 8
    state = {f"backbone.{k}": v for k, v in MODELS.build(dict(net)).state_dict().items()}
    torch.save(state, tmp_path / "t.pth")
    code, said, _ = rehearsed(config(tmp_path / "t.pth"), **options)
    assert code == 0 and f"teacher: {tmp_path / 't.pth'} fits at full size" in said


def test_a_loss_that_is_not_finite(rehearsed, scenes):
    code, _, error = rehearsed(
        MAE, data_root=scenes / "unlabelled", optim_wrapper__optimizer__lr=1e38
    )
    assert code == 2 and "expected a finite loss in every step" in error


def test_on_a_device_without_mixed_precision(monkeypatch):
    monkeypatch.setattr("mimseg.rehearse.config.get_device", lambda: "cpu")
    monkeypatch.setattr("mimseg.rehearse.config.bf16_supported", lambda device: False)
    cfg = Config.fromfile(ROOT / f"configs/{IMAGENET}.py")
    assert rehearse(cfg).optim_wrapper.type == "OptimWrapper"
    monkeypatch.setattr("mimseg.rehearse.config.bf16_supported", lambda device: True)
    assert rehearse(cfg).optim_wrapper.type == "mimseg.AmpOptimWrapper"
    cfg.optim_wrapper.update(type="AmpOptimWrapper", dtype="float16")  # mmengine's wants a GPU
    assert rehearse(cfg).optim_wrapper.type == "OptimWrapper"
    assert "dtype" not in rehearse(cfg).optim_wrapper


def test_flags_that_do_not_go_with_it(rehearsed, capsys):
    for flags in (["--resume"], ["--launcher", "pytorch"]):
        code, _, error = rehearsed(MAE, *flags, data_root=".")
        assert code == 2 and flags[0] in error and "--rehearse" in error
