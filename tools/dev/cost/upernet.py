"""UperNet as the ADE20K recipes have it, around any backbone, and a batch for it."""

from __future__ import annotations

from typing import Any

import torch
from mmengine.config import ConfigDict

from dev.cost.cell import PATCH, Cell
from dev.cost.recipe import model_of

SCOPE = "mmseg"
_CLASSES = 150  # ADE20K's


def backbones(cell: Cell) -> tuple[dict[str, Any], dict[str, Any]]:
    """Our backbone and the stock one."""
    common = dict(
        arch=cell.settings,
        img_size=cell.size,
        patch_size=PATCH,
        drop_path_rate=0.0,
        final_norm=False,
    )
    ours = dict(type="mimseg.ViT", pos_embed="learned", out_indices=cell.global_blocks, **common)
    stock = dict(
        type="mmpretrain.VisionTransformer",
        out_type="featmap",
        out_indices=cell.global_blocks,
        **common,
    )
    return ours, stock


def model(cell: Cell, backbone: dict[str, Any]) -> ConfigDict:
    """The recipe's segmentor around another backbone, with plain batch norm.

    The decode head is as wide as the backbone, as in the recipes for all sizes. The relative
    position bias and layer scale that a recipe adds stay away: the stock backbone has none.
    """
    width = cell.settings["embed_dims"]
    config = model_of("ade20k/vit-base_upernet_8xb2-160k_ade20k-512x512")
    config.backbone = ConfigDict(backbone)
    config.data_preprocessor.size = (cell.size, cell.size)
    config.neck.update(in_channels=width, norm="BN")
    config.decode_head.update(in_channels=[width] * 4, channels=width)
    config.auxiliary_head.update(in_channels=width)
    for head in (config.decode_head, config.auxiliary_head):
        head.norm_cfg = dict(type="BN", requires_grad=True)
    return config


def batch(cell: Cell) -> dict[str, list]:
    """Random images (3, H, W), uint8, each with a random label a pixel."""
    from mmengine.structures import PixelData
    from mmseg.structures import SegDataSample

    random = torch.Generator().manual_seed(0)
    side, samples = (cell.size, cell.size), []
    for _ in range(cell.batch):
        sample = SegDataSample(metainfo=dict(img_shape=side, ori_shape=side))
        labels = torch.randint(0, _CLASSES, (1, *side), generator=random)
        sample.gt_sem_seg = PixelData(data=labels)
        samples.append(sample)
    images = torch.randint(0, 256, (cell.batch, 3, *side), generator=random, dtype=torch.uint8)
    return dict(inputs=list(images), data_samples=samples)


def head_outputs(model: torch.nn.Module, levels: tuple) -> list[torch.Tensor]:
    """The class scores (B, 150, H / 4, W / 4)."""
    return [model.decode_head(levels)]
