"""Makes what follows a backbone small: necks, heads, samplers, and the model's image sizes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from mmengine.config import Config

from mimseg.rehearse.images import fit, full_side, scale_lengths
from mimseg.rehearse.size import Size
from mimseg.rehearse.vit import shrink_vit

LOADERS = ("train_dataloader", "val_dataloader", "test_dataloader")
WIDTHS = ("channels", "embed_dims", "input_features")  # ends of the keys that count channels
MOST = dict(num=16, nms_pre=50, max_per_img=50)  # of what a detector samples, proposes and keeps


def shrink_parts(cfg: Config, size: Size) -> None:
    """Make a classifier, segmentor or detector small, and its images, in place.

    Parts keep their types; channels, strides and samples follow by the config's keys, whatever the
    class. A detector keeps every box it finds, so that there is something to measure.
    """
    model = cfg.model
    img_size = model.backbone.get("img_size", 224)
    side = full_side(cfg, img_size if isinstance(img_size, int) else min(img_size))
    student = shrink_vit(model.backbone, size, size.patch_size, size.img_size)
    for name in model:
        if name not in ("backbone", "data_preprocessor", "train_cfg", "test_cfg"):
            narrow(model[name], lambda count: size.channels(count, student.width))
            _bring_closer(model[name], size.patch_size / student.patch_size)
    for name in ("train_cfg", "test_cfg"):
        _limit(model.get(name))
    scale = size.img_size / side
    images = [cfg[key].dataset for key in LOADERS if cfg.get(key)]
    scale_lengths([*images, cfg.get("tta_pipeline"), model.get("test_cfg")], scale)
    fit(model.get("data_preprocessor"), size, scale, student.patch_size)


def narrow(node: Any, channels: Callable[[int], int]) -> None:
    """Replace every number of channels below a config node, in place."""
    if isinstance(node, dict):
        for key, value in node.items():
            if str(key).endswith(WIDTHS) and not isinstance(value, (dict, bool)):
                node[key] = _each(value, channels)
            elif key == "num_groups":
                node[key] = min(value, 4)  # a divisor of whatever there is
            else:
                narrow(value, channels)
    elif isinstance(node, (list, tuple)):
        for one in node:
            narrow(one, channels)


def _bring_closer(node: Any, scale: float) -> None:
    """Scale the strides that anchors and RoI extractors count on, as the patch was."""
    if isinstance(node, dict):
        for key, value in node.items():
            if key == "featmap_strides" or (key == "strides" and "Generator" in str(node["type"])):
                node[key] = _each(value, lambda stride: max(1, round(stride * scale)))
            elif key == "finest_scale":
                node[key] = max(1, round(value * scale))
            else:
                _bring_closer(value, scale)
    elif isinstance(node, (list, tuple)):
        for one in node:
            _bring_closer(one, scale)


def _limit(node: Any) -> None:
    """Sample, propose and keep few boxes, whatever their scores."""
    if isinstance(node, dict):
        for key, value in node.items():
            if key in MOST:
                node[key] = min(value, MOST[key])
            elif key == "score_thr":
                node[key] = 0.0
            else:
                _limit(value)
    elif isinstance(node, (list, tuple)):
        for one in node:
            _limit(one)


def _each(value: Any, change: Callable[[int], int]) -> Any:
    """The value with every whole number in it changed."""
    if isinstance(value, (list, tuple)):
        return type(value)(_each(one, change) for one in value)
    return change(value) if isinstance(value, int) else value
