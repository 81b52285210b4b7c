"""Makes images and batches small: crops, resizes, padding, and what the loaders read."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from mmengine.config import Config, ConfigDict

from mimseg.data.checks.config import config_datasets
from mimseg.rehearse.size import Size

# keys of transforms, preprocessors and test settings whose whole numbers are pixels
LENGTHS = {
    *("scale", "scales", "size", "crop_size", "img_scale", "output_size", "min_gt_bbox_wh"),
    *("stride", "sizes", "pad_size"),
}


def full_side(cfg: Config, img_size: int) -> int:
    """The side of the training images in pixels, that small ones are measured by.

    It is the backbone's `img_size` where the pipeline crops or resizes to it, else the greatest
    short side in the pipeline.
    """
    loader = cfg.get("train_dataloader") or {}
    sides = set(_short_sides(loader.get("dataset")))
    return img_size if img_size in sides or not sides else max(sides)


def _short_sides(node: Any, key: str = "") -> Iterator[int]:
    if isinstance(node, dict):
        for name, value in node.items():
            yield from _short_sides(value, name)
    elif isinstance(node, (list, tuple)):
        if key in LENGTHS and node and all(_is_length(one) for one in node):
            yield min(node)
        else:
            for one in node:
                yield from _short_sides(one, key)
    elif key in LENGTHS and _is_length(node):
        yield node


def scale_lengths(node: Any, scale: float) -> None:
    """Multiply every length in pixels below a config node, in place; shares are left alone."""
    if isinstance(node, dict):
        for key, value in node.items():
            if key in LENGTHS and not isinstance(value, dict):
                node[key] = _scaled(value, scale)
            else:
                scale_lengths(value, scale)
    elif isinstance(node, (list, tuple)):
        for one in node:
            scale_lengths(one, scale)


def _scaled(value: Any, scale: float) -> Any:
    if isinstance(value, (list, tuple)):
        return type(value)(_scaled(one, scale) for one in value)
    return max(1, round(value * scale)) if _is_length(value) else value


def _is_length(value: Any) -> bool:
    """Whether it is a whole number of pixels; fractions are shares, -1 means "as it comes"."""
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def fit(preprocessor: dict | None, size: Size, scale: float, patch_size: int) -> None:
    """Bring a preprocessor's sizes and divisors to small images, in place.

    Args:
        preprocessor: its config, or None.
        size: the small size.
        scale: small pixels per full-size one.
        patch_size: of the full-size student.
    """
    if not preprocessor:
        return
    scale_lengths(preprocessor, scale)
    for settings in (preprocessor, preprocessor.get("test_cfg") or {}):
        for key in ("pad_size_divisor", "size_divisor"):
            if (settings.get(key) or 0) > 1:  # a patch, or the whole image
                settings[key] = min(size.img_size, size.patch(settings[key], patch_size))


def in_this_process(loader: dict, batch_size: int) -> None:
    """Let a loader work in small batches and without processes of its own, in place."""
    loader.update(num_workers=0, persistent_workers=False)
    if loader.get("batch_size"):
        loader["batch_size"] = min(loader["batch_size"], batch_size)
    for key in ("prefetch_factor", "pin_memory"):
        loader.pop(key, None)


def few_images(cfg: Config, split: str, images: int) -> None:
    """Let a split's loader read the first images alone, in place.

    Several data sets share the number. One whose class takes no `indices` is read whole.

    Args:
        cfg: a whole config.
        split: "train", "val" or "test"; one that the config lacks is left alone.
        images: how many of them.
    """
    leaves = list(config_datasets(cfg, (split,)))
    for data in leaves:
        if data.takes("indices"):
            data.given["indices"] = _first(data.get("indices"), -(-images // len(leaves)))
    _read_once((cfg.get(f"{split}_dataloader") or {}).get("dataset"))


def _first(indices: Any, count: int) -> Any:
    """The first of the images that a data set was limited to."""
    if isinstance(indices, int):
        return min(indices, count)
    return list(indices)[:count] if indices else count


def _read_once(dataset: Any) -> None:
    """Take repetition out of the wrappers of a data set."""
    while isinstance(dataset, ConfigDict):
        if "times" in dataset:
            dataset.times = 1
        dataset = dataset.get("dataset")
