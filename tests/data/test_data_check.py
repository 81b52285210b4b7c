"""tools/data/check.py: what is there, what is missing, and which configs can go on with it."""

import json
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import cv2
import numpy as np
import pytest
from mmengine.config import Config
from mmseg.datasets import ADE20KDataset

from mimseg.cli.check import main
from mimseg.data.checks import folder as folder_check
from mimseg.data.checks.check import check_data
from mimseg.data.checks.folder import FolderScan
from mimseg.data.checks.layouts.ade20k import _NAMES, ADE20K
from mimseg.data.checks.report import Part
from mimseg.recipes.readers import find_configs

ROOT_DIR = Path(__file__).parents[2]
TINY_COCO = ROOT_DIR.parent / "shared/data/tiny_coco.tar"


@pytest.fixture
def ade20k(scenes, tmp_path):
    for folder in ("images", "annotations"):
        for split in ("training", "validation"):
            shutil.copytree(scenes / folder / split, tmp_path / "ADE" / folder / split)
    return tmp_path / "ADE"


@pytest.fixture
def coco(scenes, tmp_path):
    root = tmp_path / "coco"
    (root / "annotations").mkdir(parents=True)
    for split, folder in (("train", "training"), ("val", "validation")):
        shutil.copytree(scenes / "images" / folder, root / f"{split}2017")
        content = json.loads((scenes / f"annotations/instances_{split}.json").read_text())
        names = ["person", *(f"thing {i}" for i in range(2, 80)), "toothbrush"]
        content["categories"] = [dict(id=i, name=name) for i, name in enumerate(names, 1)]
        (root / f"annotations/instances_{split}2017.json").write_text(json.dumps(content))
    return root


@pytest.fixture
def imagenet(scenes, tmp_path):
    root, image = tmp_path / "imagenet", scenes / "unlabelled/scene_000000.jpg"
    for split, count in (("train", 3), ("val", 2)):
        for index in range(4):
            name = f"n{index:08d}"
            (root / split / name).mkdir(parents=True)
            for number in range(count):
                shutil.copy(image, root / split / name / f"{name}_{number}.JPEG")
    return root


def states(report):
    return {part.path: part.state for part in report.parts}


def test_the_command(ade20k):
    tool = [sys.executable, "tools/data/check.py"]
    done = subprocess.run(
        [*tool, str(ade20k), "--kind", "ade20k"], cwd=ROOT_DIR, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "annotations/training        6    20,210  subset" in done.stdout
    assert "ready: train with\n  configs/ade20k/" in done.stdout
    assert f"--cfg-options data_root={ade20k}" in done.stdout


def test_a_mistake(tmp_path, capsys):
    assert main([str(tmp_path / "none"), "--kind", "coco"]) == 2
    assert capsys.readouterr().err.startswith("error: ROOT = ")
    (tmp_path / "file").write_text("x")
    assert main([str(tmp_path / "file")]) == 2


def test_ade20k_with_parts_missing(ade20k, capsys):
    shutil.rmtree(ade20k / "images/validation")
    assert main([str(ade20k)]) == 1
    text = capsys.readouterr().out
    assert "not ready: images/validation" in text and "ADEChallengeData2016.zip" in text
    assert str(ade20k / "images/validation") in text and "ready: train" not in text

    (ade20k / "annotations/training/scene_000001.png").unlink()
    report = check_data(str(ade20k))
    assert states(report)["annotations/training"] == "wrong" and "1 have none" in str(report)


def test_ade20k_labels_from_0(ade20k):
    for path in (ade20k / "annotations/training").iterdir():
        labels = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        cv2.imwrite(str(path), labels - 1)  # 8 bits: 0 becomes 255
    report = check_data(str(ade20k))
    assert not report.complete and "classes from 1; those in" in str(report)
    assert states(report)["annotations/validation"] == "subset"


def test_ade20k_stands_for_mmsegs():
    classes = ADE20KDataset.METAINFO["classes"]
    assert len(ADE20K.METAINFO["classes"]) == len(classes)
    assert all(classes[index].strip() == name for index, name in _NAMES.items())
    assert ADE20K.__init__.__defaults__ == ADE20KDataset.__init__.__defaults__


def test_coco(coco):
    report = check_data(str(coco))
    assert report.complete and "configs/coco/" in str(report)
    assert states(report)["annotations/instances_train2017.json"] == "subset"
    for folder in ("train2017", "val2017"):
        part = next(part for part in report.parts if part.path == folder)
        assert part.count == part.expected > 0

    (coco / "train2017/scene_000001.jpg").unlink()
    (coco / "val2017/scene_000001.jpg").write_bytes(b"")
    report = check_data(str(coco), "coco")
    assert "train2017: 1 of 6 images listed are not there, such as scene_000001" in str(report)
    assert "unpack train2017.zip" in str(report)
    assert "val2017: 1 of 3 files looked at are empty" in str(report)

    (coco / "annotations/instances_val2017.json").write_bytes(b"")
    assert "the file is empty" in str(check_data(str(coco)))
    (coco / "annotations/instances_val2017.json").unlink()
    assert "from annotations_trainval2017.zip" in str(check_data(str(coco)))


def test_coco_with_other_categories(coco):
    path = coco / "annotations/instances_train2017.json"
    content = json.loads(path.read_text())
    content["categories"][0]["name"] = "unicorn"
    path.write_text(json.dumps(content))
    report = check_data(str(coco))
    assert states(report)[str(path.relative_to(coco))] == "other classes"
    assert "unicorn" in str(report) and "metainfo.classes" in str(report)


@pytest.mark.skipif(not TINY_COCO.exists(), reason="no ../shared")
def test_real_coco(tmp_path):
    with tarfile.open(TINY_COCO) as archive:
        archive.extractall(tmp_path, filter="data")
    report = check_data(str(tmp_path / "tiny_coco"))
    assert report.complete and report.title == "COCO 2017"


def test_imagenet(imagenet):
    report = check_data(str(imagenet))
    assert report.title == "ImageNet-1k" and report.complete
    assert [part.count for part in report.parts] == [12, 4, 8, 4]
    text = str(report)
    assert f"data_root={imagenet / 'train'}\n" in text + "\n"
    assert f"data_root={imagenet}\n" in text + "\n"
    assert "configs/mae/" in text or " mae" in text


def test_imagenet_without_validation_pretrains(imagenet):
    shutil.rmtree(imagenet / "val")
    report = check_data(str(imagenet))
    assert not report.complete and "from ILSVRC2012_img_val.tar" in str(report)
    assert "not ready for training on labels: val, val/*" in str(report)
    assert "\nready for pretraining: train with" in str(report)


def test_imagenet_validation_as_it_is_packed(imagenet):
    rows = []
    for path in sorted((imagenet / "val").glob("*/*")):
        rows.append(f"{path.name} {int(path.parent.name[1:])}")
        path.rename(imagenet / "val" / path.name)
    for path in (imagenet / "val").glob("n*[!G]"):
        path.rmdir()
    report = check_data(str(imagenet))
    assert states(report)["val/*"] == "no labels" and "8 images lie in no" in str(report)
    (imagenet / "meta").mkdir()
    (imagenet / "meta/val.txt").write_text("\n".join(rows))
    report = check_data(str(imagenet))
    assert report.complete and "val_dataloader.dataset.ann_file=meta/val.txt" in str(report)
    (imagenet / "meta/val.txt").write_text("\n".join([rows[0].replace(" ", "\t"), *rows[1:]]))
    assert "1 of 8 lines are not NAME LABEL, one space between" in str(check_data(str(imagenet)))
    (imagenet / "meta/val.txt").write_text("\n".join([*rows, "none.JPEG 3"]))
    assert "1 of 9 images listed are not there" in str(check_data(str(imagenet)))
    (imagenet / "meta/val.txt").write_text("\n".join([*rows, "none.JPEG 1000"]))
    assert "1 of 9 lines are not NAME LABEL" in str(check_data(str(imagenet)))


def test_imagenet_classes(imagenet):
    (imagenet / "val/n00000003").rename(imagenet / "val/n00000009")
    report = check_data(str(imagenet))
    assert "2 class folders are in one of train and val only" in str(report)
    (imagenet / "train/n00000007").mkdir()
    (imagenet / "train/n00000008.tar").write_bytes(b"x")
    report = check_data(str(imagenet))
    assert "1 class folders have no images, such as n00000007" in str(report)
    assert states(report)["train"] == "packed" and "1 .tar files" in str(report)


def test_a_folder(scenes, tmp_path):
    shutil.copytree(scenes / "unlabelled", tmp_path / "photos/a b")
    (tmp_path / "photos/notes.txt").write_text("x")
    report = check_data(str(tmp_path / "photos"))
    text = str(report)
    assert report.complete and "1 .txt" in text and "median 64 px" in text
    small, large = (text.index(f"ready for pretraining at {size} px") for size in (64, 224))
    assert small < large  # the nearer one first
    assert "data_root='" in str(check_data(str(tmp_path / "photos/a b")))  # for a shell
    (tmp_path / "photos/a b/scene_000000.jpg").write_bytes(b"")
    path = tmp_path / "photos/a b/scene_000001.jpg"
    path.write_bytes(path.read_bytes()[:500])
    text = str(check_data(str(tmp_path / "photos"), "folder"))
    assert "1 of 4 files looked at are empty" in text and "1 of 3 images do not open" in text
    (tmp_path / "empty").mkdir()
    report = check_data(str(tmp_path / "empty"))
    assert states(report) == {".": "empty"} and not report.complete


def test_scenes(scenes):
    report = check_data(str(scenes))
    assert report.complete and {"unlabelled", "annotations/training"} <= set(states(report))
    assert "configs/scenes/" in str(report) and f"data_root={scenes}/unlabelled" in str(report)
    report = check_data(str(scenes), "ade20k")
    assert "try --kind scenes" in str(report)


def test_another_folder_is_meant(ade20k, imagenet, tmp_path):
    report = check_data(str(tmp_path), "ade20k")
    assert not report.complete and f"{ade20k} looks like ade20k" in str(report)
    assert f"{imagenet} looks like imagenet" in str(check_data(str(imagenet / "train")))


@pytest.mark.parametrize(
    ("found", "state"), [(0, "ok"), (4, "subset"), (5, "incomplete"), (10, "ok"), (11, "ok")]
)
def test_counts(found, state):
    part = Part("images", "train", count=found, expected=10)
    part.judge_count("x.zip")
    assert part.state == state and part.good == (state != "incomplete")


def test_scan_keeps_a_spread_of_many(tmp_path, monkeypatch):
    monkeypatch.setattr(folder_check, "KEPT", 5)
    for folder in ("a", "b/c", ".hidden"):
        (tmp_path / folder).mkdir(parents=True)
    for index in range(40):
        (tmp_path / ("a" if index < 30 else "b/c") / f"{index}.JPG").write_bytes(b"x")
    (tmp_path / ".hidden/0.jpg").write_bytes(b"x")
    (tmp_path / "a/again").symlink_to(tmp_path)  # a ring is walked once
    scan = FolderScan(str(tmp_path), (".jpg",))
    assert scan.by_folder == {"": 0, "a": 30 + 40, "b": 10}
    assert scan.count == 80 and 5 <= scan.looked_at < 10 and not scan.sizes
    assert len(scan.broken) == scan.looked_at


def test_configs_are_read_as_mmengine_reads_them():
    found = {config.data_root: config for config in find_configs()}
    assert {"data/imagenet/train", "data/imagenet", "data/coco", "data/scenes"} <= set(found)
    for config in found.values():
        cfg = Config.fromfile(ROOT_DIR / config.path, import_custom_modules=False)
        dataset = cfg.train_dataloader.dataset
        assert cfg.data_root == config.data_root
        assert dataset.get("with_label", True) == config.labeled
        views = [step for step in dataset.pipeline if step.type == "mimseg.MIMViews"]
        assert (views[0].student.size if views else None) == config.size


def test_labels_keep_their_dtype():
    from mimseg.data.checks.labels import LabelSurvey

    survey = LabelSurvey(["sky ", "floor"], reduce=False)
    assert survey.add(np.array([[0, 300]], np.uint16)) == {0, 300}
    assert survey.classes[0] == "sky" and survey.last == 1
