"""Each kind of bad data, told before anything is built; good data passes."""

import json
import shutil
import tarfile
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
from mmengine.config import Config
from PIL import Image

from mimseg.data.checks import coco as coco_check
from mimseg.data.checks import labels as label_check
from mimseg.data.checks.config import check_config_data
from mimseg.errors import UserError

SHARED = Path(__file__).parents[3] / "shared/data"
TINY_COCO, CAMVID = SHARED / "tiny_coco.tar", SHARED / "camvid.tar"
# CamVid's first eleven labels as ADE20K's, numbered from 0
ADE20K_NUMBERS = (2, 1, 93, 6, 11, 4, 43, 32, 20, 12, 127)


@pytest.fixture
def root(scenes, tmp_path):
    shutil.copytree(scenes, tmp_path / "scenes")
    return tmp_path / "scenes"


def names(root):
    return json.loads((root / "classes.json").read_text())


def folder(root, **changes):
    data = dict(
        type="CustomDataset", data_root=str(root), data_prefix="unlabelled", with_label=False
    )
    data.update(changes)
    return Config(dict(default_scope="mmpretrain", train_dataloader=dict(dataset=data)))


def semseg(root, key="train_dataloader", **changes):
    data = dict(
        type="BaseSegDataset",
        data_root=str(root),
        data_prefix=dict(img_path="images/training", seg_map_path="annotations/training"),
        metainfo=dict(classes=names(root)["classes"]),
        reduce_zero_label=True,
    )
    data.update(changes)
    return Config({"default_scope": "mmseg", key: dict(dataset=data)})


def coco(root, **changes):
    data = dict(
        type="CocoDataset",
        data_root=str(root),
        ann_file="annotations/instances_train.json",
        data_prefix=dict(img="images/training"),
        metainfo=dict(classes=names(root)["things"]),
    )
    data.update(changes)
    return Config(dict(default_scope="mmdet", train_dataloader=dict(dataset=data)))


def message(cfg):
    with pytest.raises(UserError) as error:
        check_config_data(cfg)
    return str(error.value)


def test_good_data_passes_quickly(root):
    check_config_data(Config(dict(train_dataloader=None, model=dict(type="X"))))
    for _ in range(2):  # the first round imports the toolkits
        started = time.process_time()
        for cfg in (folder(root), semseg(root), coco(root)):
            check_config_data(cfg)
    assert time.process_time() - started < 1


def test_missing_and_empty_folders(root):
    text = message(folder("/nowhere/at/all"))
    assert text.startswith("train_dataloader.dataset.data_root = '/nowhere/at/all'")
    assert "expected an existing folder" in text
    text = message(folder(root, data_prefix="unlabeled"))
    assert "data_prefix" in text and f"{root} exists" in text
    (root / "empty").mkdir()
    text = message(folder(root, data_prefix=dict(img_path="empty")))
    assert "data_prefix.img_path" in text and "it is empty" in text
    assert "images/empty" in message(coco(root, data_prefix=dict(img="images/empty")))
    absent = dict(img_path="images/training", seg_map_path="annotations/none")
    assert "seg_map_path" in message(semseg(root, data_prefix=absent))
    for path in (root / "images/training").glob("*.jpg"):
        path.unlink()
    assert "images/training" in message(semseg(root))


def test_an_absolute_prefix_is_not_joined(root, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    check_config_data(folder(other, data_prefix=str(root / "unlabelled")))
    check_config_data(folder("", data_prefix=str(root / "unlabelled")))
    assert "other" in message(folder("", data_prefix=str(other)))


def test_wrappers_are_looked_into(root):
    inner = semseg(root, data_root="/nowhere")["train_dataloader"]["dataset"].to_dict()
    good = semseg(root)["train_dataloader"]["dataset"].to_dict()
    wrapped = dict(
        type="RepeatDataset",
        times=2,
        dataset=dict(type="ConcatDataset", datasets=[good, inner]),
    )
    cfg = Config(dict(default_scope="mmseg", val_dataloader=dict(dataset=wrapped)))
    assert message(cfg).startswith("val_dataloader.dataset.dataset.datasets[1].data_root")


def test_a_label_above_the_class_count(root):
    fewer = dict(classes=names(root)["classes"][:2])
    text = message(semseg(root, metainfo=fewer))
    assert "metainfo.classes = '2 classes'" in text and "labels 0 to 2 or 255" in text
    path = sorted((root / "annotations/training").glob("*.png"))[2]
    labels = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    labels[0, 0] = 10  # the last class, counted from 1
    labels[0, 1] = 255
    cv2.imwrite(str(path), labels)
    check_config_data(semseg(root))
    assert "has 10" in message(semseg(root, reduce_zero_label=False))
    labels[0, 0] = 11
    cv2.imwrite(str(path), labels)
    text = message(semseg(root))
    assert str(path) in text and "has 11" in text and "metainfo.classes" in text
    assert message(semseg(root, key="test_dataloader")).startswith("test_dataloader")


def test_the_class_defaults_count(root):
    # ADE20KDataset: 150 classes and reduce_zero_label=True of its own.
    labels = np.full((64, 64), 150, np.uint8)
    path = root / "annotations/training/scene_000000.png"
    cv2.imwrite(str(path), labels)
    cfg = semseg(root, type="ADE20KDataset")
    del cfg.train_dataloader.dataset["metainfo"], cfg.train_dataloader.dataset["reduce_zero_label"]
    check_config_data(cfg)
    cv2.imwrite(str(path), labels + 1)
    assert "has 151" in message(cfg)
    # A choice of its classes: the files still hold the labels of all.
    cfg.train_dataloader.dataset.metainfo = dict(classes=("wall", "sky"))
    cv2.imwrite(str(path), labels)
    check_config_data(cfg)


def ade20k(root, **changes):
    prefix = dict(img_path="images/training", seg_map_path="annotations/training")
    data = dict(type="ADE20KDataset", data_root=str(root), data_prefix=prefix)
    data.update(changes)
    return Config(dict(default_scope="mmseg", train_dataloader=dict(dataset=data)))


def write_maps(root, maps):
    paths = sorted((root / "annotations/training").glob("*.png"))
    for path, labels in zip(paths, maps, strict=True):
        cv2.imwrite(str(path), labels.astype(np.uint8))


def rooms_and_streets():
    """Six maps of ADE20K's classes from 1: sky 3 or ceiling 6, above floor 4 or road 7."""
    for index in range(6):
        labels = np.zeros((64, 64))
        above, middle, below = (3, 5, 7) if index % 2 else (6, 8, 4)  # trees, beds
        labels[2:30], labels[30:40], labels[40:45], labels[45:62] = above, middle, 5, below
        yield labels


def test_ade20k_with_one_taken_from_its_labels(root):
    write_maps(root, rooms_and_streets())
    check_config_data(ade20k(root))
    write_maps(root, (labels.astype(np.uint8) - 1 for labels in rooms_and_streets()))
    text = message(ade20k(root))
    assert text.startswith("train_dataloader.dataset.reduce_zero_label = True")
    assert "numbered from 0" in text and "and 255, never 150" in text and "'wall'" in text
    assert "reduce_zero_label=False" in text and "annotations/training" in text
    check_config_data(ade20k(root, reduce_zero_label=False))


def test_what_lies_above_tells_the_numbering(root):
    # "other" as 0 too, or 150: no label is out of range, none is 255
    shifted = [np.maximum(labels - 1, 0) for labels in rooms_and_streets()]
    write_maps(root, shifted)
    text = message(ade20k(root))
    assert "sky/ceiling lies below floor/road in 6 of 6 maps, by the other in 0 of 6" in text
    check_config_data(ade20k(root, reduce_zero_label=False))
    write_maps(root, rooms_and_streets())
    text = message(ade20k(root, reduce_zero_label=False))
    assert "reduce_zero_label = False" in text and "numbered from 1" in text
    write_maps(root, [*shifted[:2], *list(rooms_and_streets())[2:]])  # no majority: no verdict
    check_config_data(ade20k(root))


def test_maps_of_ones_own_that_ignore_255(root):
    count = len(names(root)["classes"])
    maps = [np.full((64, 64), index) for index in (0, 1, 2, 3, count - 1, 255)]
    write_maps(root, maps)
    text = message(semseg(root))
    assert "reduce_zero_label = True" in text and f"never {count}" in text
    check_config_data(semseg(root, reduce_zero_label=False))
    maps[1][:] = count  # the last class numbered from 1
    write_maps(root, maps)
    check_config_data(semseg(root))
    maps[1][:], maps[4][:] = 1, 4  # few of the classes: nothing to tell it by
    write_maps(root, maps)
    check_config_data(semseg(root))


def test_more_maps_are_read_before_it_is_said(root, monkeypatch):
    monkeypatch.setattr(label_check, "MAPS_READ", 3)  # the first, third and fifth
    maps = list(rooms_and_streets())
    maps[2][0] = 255
    write_maps(root, maps)
    assert "6 maps hold" in message(ade20k(root))
    maps[3][1] = 150
    write_maps(root, maps)
    check_config_data(ade20k(root))


@pytest.mark.skipif(not CAMVID.exists(), reason="no ../shared")
@pytest.mark.parametrize("first", [0, 1])
def test_numbering_of_real_streets(tmp_path, first):
    numbers = np.zeros(256, np.uint8)  # void is "other"
    numbers[: len(ADE20K_NUMBERS)] = np.array(ADE20K_NUMBERS) + first
    with tarfile.open(CAMVID) as archive:
        wanted = [m for m in archive.getmembers() if "/val/" in m.name][:40]
        archive.extractall(tmp_path, wanted, filter="data")
    root = tmp_path / "camvid"
    for path in (root / "annotations/val").iterdir():
        cv2.imwrite(str(path), numbers[cv2.imread(str(path), cv2.IMREAD_UNCHANGED)])
    prefix = dict(img_path="images/val", seg_map_path="annotations/val")
    check_config_data(ade20k(root, data_prefix=prefix, reduce_zero_label=bool(first)))
    text = message(ade20k(root, data_prefix=prefix, reduce_zero_label=not first))
    assert f"numbered from {first}" in text and "sky/ceiling lies below floor/road" in text


def test_images_without_map_and_maps_that_are_none(root):
    maps = sorted((root / "annotations/training").glob("*.png"))
    maps[4].unlink()
    text = message(semseg(root))
    assert "1 have none" in text and "scene_000004.png" in text
    colour = np.zeros((64, 64, 3), np.uint8)
    cv2.imwrite(str(maps[4]), colour)
    assert "one channel" in message(semseg(root))
    maps[4].write_text("text")
    assert "scene_000004.png" in message(semseg(root))


def test_a_list_of_images(root):
    listed = root / "list.txt"
    listed.write_text("scene_000001\nscene_000003\n")
    check_config_data(semseg(root, ann_file="list.txt"))
    listed.write_text("scene_000001\nscene_000777\n")
    text = message(semseg(root, ann_file="list.txt"))
    assert "1 of 2" in text and "scene_000777.jpg" in text
    assert "ann_file" in message(semseg(root, ann_file="none.txt"))


@pytest.mark.parametrize("whole", [1 << 30, 10])  # parsed, and scanned as if it were huge
def test_coco_files(root, monkeypatch, whole):
    monkeypatch.setattr(coco_check, "WHOLE", whole)
    check_config_data(coco(root))
    assert "existing file" in message(coco(root, ann_file="annotations/instances.json"))

    sets = names(root)["things"]
    text = message(coco(root, metainfo=dict(classes=sets[:-1])))
    assert text.startswith("train_dataloader.dataset.metainfo.classes") and sets[-1] in text
    assert "in the order" in message(coco(root, metainfo=dict(classes=sets[::-1])))
    assert "in the order" in message(coco(root, metainfo=dict(classes=[*sets, "unicorn"])))

    listed = root / "annotations/instances_train.json"
    content = json.loads(listed.read_text())
    for category in content["categories"]:  # as in COCO's key points
        category["skeleton"] = [[1, 2], [2, 3]]
    listed.write_text(json.dumps(content))
    check_config_data(coco(root))

    for name in ("scene_000002.jpg", "scene_000005.jpg"):
        (root / "images/training" / name).unlink()
    text = message(coco(root))
    assert "2 of 6 are not there" in text and "'scene_000002.jpg'" in text
    listed.write_text("{'images': [")
    assert "a COCO file" in message(coco(root))


def test_images_of_coco_that_are_empty_files(root, monkeypatch):
    told = []
    monkeypatch.setattr(coco_check, "print_log", lambda text, *_: told.append(text))
    (root / "images/training/scene_000002.jpg").write_bytes(b"")
    check_config_data(coco(root))  # training goes on without it
    assert "1 images are empty files" in told[0]
    assert "the first 'scene_000002.jpg'" in message(coco(root, test_mode=True))
    (root / "annotations/instances_train.json").write_bytes(b"")
    assert "the file is empty" in message(coco(root))


def test_coco_files_that_contradict_themselves(root):
    path = root / "annotations/instances_train.json"
    good = json.loads(path.read_text())
    for change, word in (
        (lambda c: c.pop("annotations"), "lacks annotations"),
        (lambda c: c["annotations"][0].update(image_id=99), "image_id of 1 annotations"),
        (lambda c: c["annotations"][0].update(category_id=99), "category_id of 1 annotations"),
        (lambda c: c["images"][0].pop("file_name"), "file_name"),
        (lambda c: c.update(images=[], annotations=[]), "at least one image"),
    ):
        content = json.loads(json.dumps(good))
        change(content)
        path.write_text(json.dumps(content))
        assert word in message(coco(root))


def test_an_evaluator_of_a_missing_file(root):
    cfg = coco(root)
    cfg.val_evaluator = dict(type="CocoMetric", ann_file=str(root / "none.json"))
    assert message(cfg).startswith("val_evaluator.ann_file")


def test_other_kinds_of_data_are_left_alone(root):
    check_config_data(folder("s3://bucket/none", data_prefix="x"))
    unknown = dict(type="NoSuchDataset", data_root=str(root))
    check_config_data(Config(dict(train_dataloader=dict(dataset=unknown))))


@pytest.mark.skipif(not TINY_COCO.exists(), reason="no ../shared")
def test_real_coco(tmp_path):
    with tarfile.open(TINY_COCO) as archive:
        archive.extractall(tmp_path, filter="data")
    root = tmp_path / "tiny_coco"
    path = next((root / "annotations").glob("*train*.json"))
    data = dict(
        type="CocoDataset",
        data_root=str(root),
        ann_file=f"annotations/{path.name}",
        data_prefix=dict(img="train2017"),
    )
    cfg = Config(dict(default_scope="mmdet", train_dataloader=dict(dataset=data)))
    check_config_data(cfg)  # mmdet's own 80 classes
    cfg.train_dataloader.dataset.data_prefix.img = "val2017"
    assert "50 of 50 are not there" in message(cfg)


# ---------------------------------------------------------------- what is valid and wrong


@pytest.fixture
def warnings(monkeypatch):
    """What the checks of label maps warn of."""
    texts = []
    monkeypatch.setattr(label_check, "_warn", texts.append)
    return texts


TWO = dict(metainfo=dict(classes=["background", "object"]))


def binary(root, object_label, mode=None):
    """Maps of one object each, as tools export them: 0, and one label for the object."""
    for path in (root / "annotations/training").glob("*.png"):
        labels = np.zeros((64, 64), np.uint8)
        labels[20:40, 20:40] = object_label
        image = Image.fromarray(labels)
        (image.convert(mode) if mode else image).save(path)


def test_an_object_that_is_ignored(root):
    binary(root, 255)
    text = message(semseg(root, reduce_zero_label=False, **TWO))
    assert "hold the labels 0, 255 alone; 255 is ignored" in text
    assert "write the object as 1 (map // 255)" in text


@pytest.mark.parametrize("mode", [None, "1"])
def test_a_background_that_is_ignored(root, mode):
    binary(root, 1 if mode is None else 255, mode)
    text = message(semseg(root, **TWO))
    assert "hold the labels 0, 1 alone; 0 is ignored" in text and "reduce_zero_label=False" in text
    check_config_data(semseg(root, reduce_zero_label=False, **TWO))


def test_maps_without_any_class(root, warnings):
    binary(root, 0)
    validation = semseg(root, key="val_dataloader", **TWO)
    assert "hold the labels 0 alone; 0 is ignored" in message(validation)
    check_config_data(semseg(root, key="val_dataloader", reduce_zero_label=False, **TWO))
    assert "nothing to tell apart" in warnings[0]  # few images may well show one class


def test_a_large_set_is_read_on_before_it_is_said(root, monkeypatch, warnings):
    monkeypatch.setattr(label_check, "MAPS_READ", 1)
    monkeypatch.setattr(label_check, "MORE_READ", 4)  # of the six
    binary(root, 255)
    check_config_data(semseg(root, reduce_zero_label=False, **TWO))
    assert "4 read in" in warnings[0] and "Fix: write the object as 1" in warnings[0]


def test_classes_that_never_occur_are_named(root, warnings):
    binary(root, 1)
    classes = ["background", "object", "rust", "moss"]
    cfg = semseg(root, reduce_zero_label=False, metainfo=dict(classes=classes))
    check_config_data(cfg)
    (text,) = warnings
    assert "2 of 4 classes occur in none of the 6 label maps" in text
    assert "'rust' (label 2), 'moss' (label 3)" in text
    check_config_data(Config(dict(cfg, train_dataloader=None, val_dataloader=cfg.train_dataloader)))
    assert len(warnings) == 1  # a split for validation may lack some


def resize(root, size, count=1, exif=None):
    """Give some images another (width, height) or orientation; their maps stay."""
    for path in sorted((root / "images/training").glob("*.jpg"))[:count]:
        image = Image.open(path).convert("RGB").resize(size)
        tags = Image.Exif()
        if exif:
            tags[0x0112] = exif
        image.save(path, exif=tags.tobytes())


def test_a_map_of_another_size(root):
    resize(root, (32, 64))
    text = message(semseg(root))
    assert "a map of its image's size, 32 x 64 pixels" in text and "it has 64 x 64" in text
    assert "nearest-neighbor" in text


AS_STORED = dict(pipeline=[dict(type="LoadImageFromFile", color_type="color_ignore_orientation")])


def test_a_photo_that_is_turned_and_its_map_is_not(root):
    resize(root, (64, 48), exif=6)
    first = sorted((root / "annotations/training").glob("*.png"))[0]
    cv2.imwrite(str(first), cv2.imread(str(first), cv2.IMREAD_UNCHANGED)[:48])
    text = message(semseg(root))
    assert "EXIF orientation" in text and "48 x 64 pixels" in text
    check_config_data(semseg(root, **AS_STORED))
    cv2.imwrite(str(first), np.rot90(cv2.imread(str(first), cv2.IMREAD_UNCHANGED)))
    check_config_data(semseg(root))
    assert "it has 48 x 64" in message(semseg(root, **AS_STORED))


def test_orientations_that_keep_the_size_are_said(root, warnings):
    resize(root, (64, 64), count=2, exif=3)
    check_config_data(semseg(root))
    assert any("2 of 6 images read" in text and "upright image" in text for text in warnings)
    warnings.clear()
    check_config_data(semseg(root, **AS_STORED))
    assert not any("EXIF" in text for text in warnings)


def test_a_suffix_in_another_case(root, warnings):
    paths = sorted((root / "images/training").glob("*.jpg"))
    paths[1].rename(paths[1].with_suffix(".JPG"))
    text = message(semseg(root))
    assert "img_suffix = '.jpg'" in text and "1 of 6 in" in text and f"{paths[1].stem}.JPG" in text
    paths[1].with_suffix(".JPG").rename(paths[1].with_suffix(".png"))
    check_config_data(semseg(root))
    assert any("1 of 6 images in" in text and "not read" in text for text in warnings)


@pytest.mark.parametrize("outputs", [4, 30])
def test_a_segmentors_outputs(root, outputs):
    cfg = semseg(root)
    cfg.model = dict(
        decode_head=dict(type="UPerHead", num_classes=len(names(root)["classes"])),
        auxiliary_head=dict(type="FCNHead", num_classes=outputs),
    )
    assert f"model.auxiliary_head.num_classes = {outputs}" in message(cfg)
    cfg.model.auxiliary_head.num_classes = cfg.model.decode_head.num_classes
    check_config_data(cfg)
