"""Broken files through the three toolkits' dataset classes, in training and in testing."""

import json
import logging
import pickle
import shutil

import numpy as np
import pytest
from mmcv.transforms import LoadImageFromFile as MMCVLoadImageFromFile
from mmengine.logging import MMLogger
from mmengine.registry import DATASETS, DefaultScope

from mimseg.data.loading import LoadImageFromFile
from mimseg.errors import UserError

SCOPES = {"folder": "mmpretrain", "semseg": "mmseg", "coco": "mmdet"}


def break_files(folder):
    """Break three of the folder's six images in three ways; return their paths."""
    files = sorted(folder.glob("*.jpg"))[:3]
    files[0].write_bytes(b"")
    files[1].write_bytes(files[1].read_bytes()[:-200])
    files[2].write_text("not an image\n" * 20)
    return [str(path) for path in files]


@pytest.fixture
def broken(scenes, tmp_path):
    root = tmp_path / "scenes"
    shutil.copytree(scenes, root)
    return root, break_files(root / "images/training")


def build(kind, root, **loading):
    pipeline = [dict(type="mimseg.LoadImageFromFile", **loading)]
    names = json.loads((root / "classes.json").read_text())
    if kind == "folder":
        return dict(
            type="CustomDataset",
            data_root=str(root),
            data_prefix="images/training",
            with_label=False,
            pipeline=pipeline,
        )
    if kind == "semseg":
        return dict(
            type="BaseSegDataset",
            data_root=str(root),
            data_prefix=dict(img_path="images/training", seg_map_path="annotations/training"),
            metainfo=dict(classes=names["classes"], palette=names["palette"]),
            reduce_zero_label=True,
            pipeline=[*pipeline, dict(type="LoadAnnotations")],
        )
    return dict(
        type="CocoDataset",
        data_root=str(root),
        ann_file="annotations/instances_train.json",
        data_prefix=dict(img="images/training"),
        metainfo=dict(classes=names["things"]),
        pipeline=[*pipeline, dict(type="LoadAnnotations", with_bbox=True, with_mask=True)],
    )


@pytest.fixture
def told():
    """The warnings that reach mmengine's logger."""
    lines = []

    class Keep(logging.Handler):
        def emit(self, record):
            lines.append(record.getMessage())

    logger, handler = MMLogger.get_current_instance(), Keep(logging.WARNING)
    logger.addHandler(handler)
    yield lines
    logger.removeHandler(handler)


@pytest.mark.parametrize("kind", SCOPES)
def test_training_skips_counts_and_names_broken_files(kind, broken, told):
    root, paths = broken
    with DefaultScope.overwrite_default_scope(SCOPES[kind]):
        data = DATASETS.build(build(kind, root))
        assert len(data) == 6
        items = [data[index] for _ in range(2) for index in range(6)]
    assert all(item["img"].shape == (64, 64, 3) for item in items)
    assert not {item["img_path"] for item in items} & set(paths)
    lines = [line for line in told if "unreadable image" in line]
    assert len(lines) == 3  # once a file, though each was met twice or more
    for path in paths:
        assert sum(path in line for line in lines) == 1
    assert "(3 unreadable so far" in lines[-1]


@pytest.mark.parametrize("kind", SCOPES)
def test_testing_ends_with_the_file_named(kind, broken, told):
    root, paths = broken
    with DefaultScope.overwrite_default_scope(SCOPES[kind]):
        data = DATASETS.build({**build(kind, root, broken="raise"), "test_mode": True})
        good = {item["img_path"] for item in map(data.__getitem__, range(3, 6))}
        for index, path in enumerate(paths):
            with pytest.raises(UserError) as error:
                data[index]
            assert path in str(error.value) and error.value.key == "img_path"
        assert len(good) == 3
        # Left at "skip", mmengine ends the run; the log has named the file before.
        skipping = DATASETS.build({**build(kind, root), "test_mode": True})
        with pytest.raises(Exception, match="should not get `None`"):
            skipping[1]
    assert paths[1] in told[-1]


def test_all_broken_ends_the_run(broken):
    root, _ = broken
    for path in (root / "images/training").glob("*.jpg"):
        path.write_bytes(b"")
    with DefaultScope.overwrite_default_scope("mmpretrain"):
        data = DATASETS.build(build("folder", root))
        with pytest.raises(UserError, match="50 in a row"):
            data[0]


def test_a_good_image_between_restarts_the_row(scenes, tmp_path):
    bad, good = tmp_path / "bad.jpg", next((scenes / "unlabelled").glob("*.jpg"))
    bad.write_bytes(b"junk")
    load = LoadImageFromFile(max_in_a_row=3)
    for _ in range(4):
        assert load({"img_path": str(bad)}) is None
        assert load({"img_path": str(tmp_path / "absent.jpg")}) is None
        assert load({"img_path": str(good)}) is not None
    assert len(load.seen_broken) == 2
    load({"img_path": str(bad)}), load({"img_path": str(bad)})
    with pytest.raises(UserError, match="3 in a row"):
        load({"img_path": str(bad)})


@pytest.mark.parametrize("options", [{}, {"to_float32": True}, {"imdecode_backend": "pillow"}])
def test_good_images_load_as_with_mmcv(scenes, options):
    path = str(next((scenes / "unlabelled").glob("*.jpg")))
    ours = LoadImageFromFile(**options)({"img_path": path})
    theirs = MMCVLoadImageFromFile(**options)({"img_path": path})
    assert ours.keys() == theirs.keys() and ours["img"].dtype == theirs["img"].dtype
    assert np.array_equal(ours["img"], theirs["img"])
    assert ours["img_shape"] == theirs["img_shape"] == ours["ori_shape"]


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".bmp", ".webp"])
def test_truncation_is_seen_and_whole_files_are_not_suspected(suffix, tmp_path):
    import cv2

    noise = np.random.default_rng(0).integers(0, 256, (40, 40, 3), np.uint8)
    content = cv2.imencode(suffix, noise)[1].tobytes()
    path = tmp_path / f"image{suffix}"
    load = LoadImageFromFile()
    for whole in (content, content + b"\0\0trailing bytes of a camera"):
        path.write_bytes(whole)
        assert load({"img_path": str(path)})["img"].shape == (40, 40, 3)
    for cut in (0.9, 0.5, 0.01):
        path.write_bytes(content[: int(cut * len(content))])
        assert load({"img_path": str(path)}) is None, cut


def test_it_pickles_for_loader_processes_and_refuses_bad_options():
    load = pickle.loads(pickle.dumps(LoadImageFromFile(max_in_a_row=7)))
    assert load.max_in_a_row == 7
    with pytest.raises(UserError, match="broken"):
        LoadImageFromFile(broken="ignore")
    with pytest.raises(UserError, match="max_in_a_row"):
        LoadImageFromFile(max_in_a_row=0)
