"""Generated data through the three toolkits' own dataset classes."""

import json

import numpy as np
from faster_coco_eval.core import mask as rle
from mmengine.registry import DATASETS, DefaultScope
from PIL import Image

COUNTS = {"train": 6, "val": 3, "unlabelled": 4}


def test_unlabelled_folder_in_mmpretrain(scenes):
    data = DATASETS.build(
        dict(
            type="mmpretrain.CustomDataset",
            data_root=str(scenes),
            data_prefix="unlabelled",
            with_label=False,
            pipeline=[dict(type="mimseg.LoadImageFromFile")],
        )
    )
    assert len(data) == COUNTS["unlabelled"]
    assert data[0]["img"].shape == (64, 64, 3)


def test_label_maps_in_mmseg(scenes):
    with DefaultScope.overwrite_default_scope("mmseg"):
        check_label_maps_in_mmseg(scenes)


def check_label_maps_in_mmseg(scenes):
    names = json.loads((scenes / "classes.json").read_text())
    pipeline = [dict(type="mimseg.LoadImageFromFile"), dict(type="mmseg.LoadAnnotations")]
    data = DATASETS.build(
        dict(
            type="mmseg.BaseSegDataset",
            data_root=str(scenes),
            data_prefix=dict(img_path="images/training", seg_map_path="annotations/training"),
            metainfo=dict(classes=names["classes"], palette=names["palette"]),
            reduce_zero_label=True,
            pipeline=pipeline,
        )
    )
    ade = DATASETS.build(
        dict(
            type="mmseg.ADE20KDataset",
            data_root=str(scenes),
            data_prefix=dict(img_path="images/training", seg_map_path="annotations/training"),
            pipeline=pipeline,
        )
    )
    assert len(data) == len(ade) == COUNTS["train"]
    for index in range(len(data)):
        raw = np.array(Image.open(scenes / f"annotations/training/scene_{index:06d}.png"))
        expected = np.where(raw == 0, 255, raw.astype(int) - 1)
        for one in (data, ade):
            assert (one[index]["gt_seg_map"] == expected).all()
            assert one[index]["img"].shape == (64, 64, 3)
    seen = np.unique([data[i]["gt_seg_map"] for i in range(len(data))])
    assert set(seen) <= {*range(10), 255} and {0, 1, 255} < set(seen)


def test_instances_in_mmdet(scenes):
    with DefaultScope.overwrite_default_scope("mmdet"):
        check_instances_in_mmdet(scenes)


def check_instances_in_mmdet(scenes):
    names = json.loads((scenes / "classes.json").read_text())
    data = DATASETS.build(
        dict(
            type="mmdet.CocoDataset",
            data_root=str(scenes),
            ann_file="annotations/instances_val.json",
            data_prefix=dict(img="images/validation"),
            metainfo=dict(classes=names["things"]),
            test_mode=True,
            pipeline=[
                dict(type="mimseg.LoadImageFromFile"),
                dict(type="mmdet.LoadAnnotations", with_bbox=True, with_mask=True),
            ],
        )
    )
    document = json.loads((scenes / "annotations/instances_val.json").read_text())
    assert len(data) == COUNTS["val"]
    count = 0
    for index in range(len(data)):
        item = data[index]
        raw = np.array(Image.open(scenes / f"annotations/validation/scene_{index:06d}.png"))
        masks, labels = item["gt_masks"].masks, item["gt_bboxes_labels"]
        boxes = item["gt_bboxes"].tensor.numpy()
        count += len(labels)
        # Together the instances are the things of the label map, class by class.
        drawn = np.zeros_like(raw)
        for mask, label, box in zip(masks, labels, boxes, strict=True):
            drawn[mask > 0] = label + 3  # after the ignore label and two stuff classes
            rows, columns = np.nonzero(mask)
            tight = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
            assert box.tolist() == tight
        assert (drawn == np.where(raw > 2, raw, 0)).all()
    assert count == len(document["annotations"]) > 4
    for one in document["annotations"]:
        assert one["iscrowd"] == 0 and one["area"] == rle.decode(one["segmentation"]).sum() >= 20
