"""Checks that a classifier has the classes of its labeled image folders, before it is built."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping

from mmengine.fileio import list_dir_or_file

from mimseg.data.checks.config import DatasetConfig, config_datasets, config_metrics
from mimseg.errors import UserError

HEAD = "model.head.num_classes"
LISTED = re.compile(r".*\S (\d+)")  # a line of a list of images and labels


def check_classes(cfg: Mapping, splits: Iterable[str]) -> None:
    """Compare a classifier's number of classes with its data's, and the splits with one another.

    mmpretrain numbers class folders by name, each split for itself. A label too high for the head
    is an error from deep inside on a CPU, a device-side assert on a GPU, and a low accuracy where
    it is in the validation split; a class that one split lacks shifts all labels behind it.

    Args:
        cfg: an mmengine Config, whole. One without `model.head.num_classes` is left alone.
        splits: of "train", "val" and "test", those to look at.

    Raises:
        UserError: naming the config key.
    """
    model = cfg.get("model") or {}
    count = (model.get("head") or {}).get("num_classes")
    if count is None:
        return
    inside = model.get("data_preprocessor")  # mmengine takes it from either place
    preprocessor = f"{'model.' if inside else ''}data_preprocessor.num_classes"
    known = (inside or cfg.get("data_preprocessor") or {}).get("num_classes")
    if known not in (None, count):
        raise UserError(preprocessor, known, expected=f"{count}, as {HEAD}", fix="set both")
    first: tuple[str, list[str]] | None = None
    for data in _labeled(cfg, splits):
        key, folder = data.prefix("img_path")
        if data.ann_file:
            _check_list(f"{data.key}.ann_file", data.ann_file, count)
            continue
        names = sorted(list_dir_or_file(folder, list_dir=True, list_file=False))
        if first and names != first[1]:
            name = sorted(set(names) ^ set(first[1]))[0]
            raise UserError(
                key,
                folder,
                expected=f"the class folders of {first[0]}; {name!r} is in one of them only",
                fix="labels are the folders' places by name, so every split needs the same",
            )
        _check_count(key, folder, names, count, preprocessor if known is not None else None)
        first = first or (folder, names)
    _check_topk(cfg, splits, count)


def _labeled(cfg: Mapping, splits: Iterable[str]) -> Iterator[DatasetConfig]:
    """The folders of mmpretrain's CustomDataset whose labels are read."""
    for data in config_datasets(cfg, splits):
        if data.name == "CustomDataset" and data.get("with_label") and not data.is_remote:
            yield data


def _check_count(
    key: str, folder: str, names: list[str], count: int, preprocessor: str | None
) -> None:
    if not names:
        fix = "put each class's images into a folder of its own"
        raise UserError(
            key, folder, expected="a folder of class folders; it has no folders", fix=fix
        )
    if len(names) != count:
        keys = (HEAD, preprocessor) if preprocessor else (HEAD,)
        few = ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
        raise UserError(
            HEAD,
            count,
            expected=f"{len(names)}, the number of class folders in {folder} ({few})",
            fix="--cfg-options " + " ".join(f"{k}={len(names)}" for k in keys),
        )


def _check_list(key: str, path: str, count: int) -> None:
    """The lines of a list are an image and its label, as mmpretrain splits them."""
    with open(path, encoding="utf-8") as lines:
        for line in lines:
            label = LISTED.fullmatch(line.strip())
            if label is None or int(label[1]) >= count:
                raise UserError(
                    key,
                    path,
                    expected=f"lines of an image, a space and a label below {count}; one is "
                    f"{line.rstrip()!r}",
                    fix=f"correct the list or {HEAD}",
                )


def _check_topk(cfg: Mapping, splits: Iterable[str], count: int) -> None:
    for key, metric in config_metrics(cfg, splits):
        topk = metric.get("topk")
        if topk and max(topk if isinstance(topk, list | tuple) else [topk]) > count:
            fix = f"--cfg-options {key}.topk=1"
            raise UserError(
                f"{key}.topk", topk, expected=f"at most the number of classes, {count}", fix=fix
            )
