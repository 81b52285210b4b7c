"""Mask R-CNN as the ViTDet recipes have it, around any backbone, and a batch for it."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from mmengine.config import ConfigDict

from dev.cost.cell import PATCH, Cell
from dev.cost.recipe import model_of
from mimseg.rehearse.parts import narrow

SCOPE = "mmdet"
_WINDOW = 14  # ViTDet, arXiv 2203.16527, section 4
_CLASSES = 80  # COCO's
_OBJECTS = 7  # an image: COCO's mean


def backbones(cell: Cell) -> tuple[dict[str, Any], dict[str, Any]]:
    """Our backbone and the stock one: windows, global blocks, decomposed relative positions."""
    common = dict(
        img_size=cell.size,
        patch_size=PATCH,
        window_size=_WINDOW,
        drop_path_rate=0.0,
        out_indices=[cell.settings["num_layers"] - 1],
    )
    ours = dict(
        type="mimseg.ViT",
        arch=cell.settings,
        pos_embed="learned",
        with_cls_token=False,
        global_blocks=cell.global_blocks,
        decomposed_rel_pos=True,
        final_norm=False,
        **common,
    )
    stock = dict(
        type="mmpretrain.ViTSAM",
        arch=dict(cell.settings, global_attn_indexes=cell.global_blocks),
        use_rel_pos=True,
        out_channels=0,
        norm_cfg=dict(type="LN", eps=1e-6),
        **common,
    )
    return ours, stock


def model(cell: Cell, backbone: dict[str, Any]) -> ConfigDict:
    """The recipe's detector around another backbone.

    For "mini", which is there to see whether all runs, pyramid and heads are slim too.
    """
    config = model_of("coco/mask-rcnn_vit-base-vitdet_16xb4-100e_coco")
    config.backbone = ConfigDict(backbone)
    config.data_preprocessor.pad_size_divisor = 32
    config.neck.in_channels = cell.settings["embed_dims"]
    if cell.arch == "mini":
        _slim(config, 64)
    return config


def _slim(config: ConfigDict, width: int) -> None:
    backbone = config.neck.in_channels
    for name in ("neck", "rpn_head", "roi_head"):
        narrow(config[name], lambda count: count if count == backbone else width)
    config.train_cfg.rcnn.sampler.num = 32


def batch(cell: Cell) -> dict[str, list]:
    """Random images (3, H, W), uint8, each with boxes of an eighth to half of its side."""
    from mmdet.structures import DetDataSample
    from mmdet.structures.bbox import HorizontalBoxes
    from mmdet.structures.mask import BitmapMasks
    from mmengine.structures import InstanceData

    random, side = np.random.default_rng(0), cell.size
    images, samples = [], []
    for number in range(cell.batch):
        sides = random.uniform(side / 8, side / 2, (_OBJECTS, 2))
        corners = random.uniform(0, side - sides)
        boxes = np.concatenate([corners, corners + sides], axis=1)
        masks = np.zeros((_OBJECTS, side, side), dtype=np.uint8)
        for mask, (left, top, right, bottom) in zip(masks, boxes.astype(int), strict=True):
            mask[top:bottom, left:right] = 1
        sample = DetDataSample(
            metainfo=dict(img_id=number, img_shape=(side,) * 2, ori_shape=(side,) * 2)
        )
        sample.gt_instances = InstanceData(
            bboxes=HorizontalBoxes(torch.from_numpy(boxes).float()),
            labels=torch.from_numpy(random.integers(0, _CLASSES, _OBJECTS)),
            masks=BitmapMasks(masks, side, side),
        )
        samples.append(sample)
        images.append(torch.from_numpy(random.integers(0, 256, (3, side, side), dtype=np.uint8)))
    return dict(inputs=images, data_samples=samples)


def head_outputs(model: torch.nn.Module, levels: tuple) -> list[torch.Tensor]:
    """The RPN's scores and boxes of all levels; what follows them depends on a sorting."""
    scores, boxes = model.rpn_head(levels)
    return [*scores, *boxes]
