"""Makes batches of noise with the sizes and labels that a config trains on; no data are read."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from mmengine.config import Config
from mmengine.structures import InstanceData, PixelData
from torch import Tensor

from mimseg.engine.prepare import view_sizes
from mimseg.errors import UserError

OBJECTS = 7  # boxes per image: COCO's mean


def image_sizes(cfg: Config) -> dict[str, tuple[int, int]]:
    """View -> (H, W) of the training images.

    They are those of the pipeline's views, else the one view "student" of the size that the
    backbone is made for: images that a pipeline resizes to many sizes are taken as that one.

    Raises:
        UserError: the config names neither.
    """
    if sizes := view_sizes(cfg):
        return sizes
    backbone = cfg.model.get("backbone") or {}
    size = backbone.get("img_size", 224 if backbone.get("type") == "mimseg.ViT" else None)
    if size is None:
        expected = "the side of the training images in pixels, or (H, W)"
        raise UserError("model.backbone.img_size", None, expected=expected, fix="set it")
    return {"student": (size, size) if isinstance(size, int) else tuple(size)}


def noise_batch(cfg: Config, count: int) -> dict[str, Any]:
    """What a data loader of the config would give for `count` images."""
    sizes = image_sizes(cfg)
    images = {name: _noise(count, size) for name, size in sizes.items()}
    if "teacher" in cfg.model or "objectives" in cfg.model:
        return dict(inputs=images)
    samples = label_samples(cfg, count)
    (batch,) = images.values()
    stacked = cfg.default_scope == "mmpretrain"  # by default_collate
    return dict(inputs=batch if stacked else list(batch), data_samples=samples)


def _noise(count: int, size: tuple[int, int]) -> Tensor:
    return torch.randint(0, 256, (count, 3, *size), dtype=torch.uint8)


def label_samples(cfg: Config, count: int) -> list:
    """Data samples with random labels of the config's task, on torch's default device.

    Raises:
        UserError: a scope of another toolkit.
    """
    scope = cfg.get("default_scope")
    if scope not in _SAMPLES:
        raise UserError("default_scope", scope, expected=f"one of {list(_SAMPLES)}")
    (size,) = image_sizes(cfg).values()
    return [_SAMPLES[scope](cfg.model, size) for _ in range(count)]


def _class_sample(model: dict, size: tuple[int, int]) -> Any:
    from mmpretrain.structures import DataSample

    classes = model["head"]["num_classes"]
    sample = DataSample().set_gt_label(torch.randint(0, classes, (1,)))
    if (model.get("train_cfg") or {}).get("augments"):  # mixup wants and gives scores
        sample.set_gt_score(torch.rand(classes))
    return sample


def _map_sample(model: dict, size: tuple[int, int]) -> Any:
    from mmseg.structures import SegDataSample

    sample = SegDataSample(metainfo=dict(img_shape=size, ori_shape=size))
    head = model["decode_head"]
    classes = (head[-1] if isinstance(head, list) else head)["num_classes"]
    sample.gt_sem_seg = PixelData(data=torch.randint(0, classes, (1, *size)))
    return sample


def _box_sample(model: dict, size: tuple[int, int]) -> Any:
    """Boxes of an eighth to half of each side, filled masks."""
    import numpy as np
    from mmdet.structures import DetDataSample
    from mmdet.structures.bbox import HorizontalBoxes
    from mmdet.structures.mask import BitmapMasks

    head = model["roi_head"]["bbox_head"]
    classes = (head[0] if isinstance(head, list) else head)["num_classes"]
    whole = torch.tensor([size[1], size[0]])
    sides = whole * (torch.rand(OBJECTS, 2) * 3 / 8 + 1 / 8)
    corners = torch.rand(OBJECTS, 2) * (whole - sides)
    boxes = torch.cat([corners, corners + sides], dim=1)
    masks = np.zeros((OBJECTS, *size), dtype=np.uint8)
    for mask, (left, top, right, bottom) in zip(masks, boxes.int().tolist(), strict=True):
        mask[top:bottom, left:right] = 1
    meta = dict(img_id=0, img_shape=size, ori_shape=size, scale_factor=(1.0, 1.0))
    sample = DetDataSample(metainfo=meta)
    sample.gt_instances = InstanceData(
        bboxes=HorizontalBoxes(boxes),
        labels=torch.randint(0, classes, (OBJECTS,)),
        masks=BitmapMasks(masks, *size),
    )
    return sample


_SAMPLES: dict[str, Callable[[dict, tuple[int, int]], Any]] = {
    "mmpretrain": _class_sample,
    "mmseg": _map_sample,
    "mmdet": _box_sample,
}
