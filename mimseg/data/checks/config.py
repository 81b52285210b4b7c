"""Checks a config's data before anything is built, and says what is wrong in one message.

Known are image folders, mmseg's image and label map folders, and COCO files; another kind of data
set is left alone, and so is data on a remote backend. Reading is capped, so that a check takes a
second or two on large sets.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from mmengine.fileio import join_path
from mmengine.registry import DATASETS
from mmengine.utils import is_abs

from mimseg.data.checks.coco import check_coco
from mimseg.data.checks.folder import check_folder, require_path
from mimseg.data.checks.labels import check_label_maps
from mimseg.errors import UserError
from mimseg.registry import find_default, find_parameter

SPLITS = ("train", "val", "test")


class DatasetConfig:
    """One data set's entry in a config, read as its class would: with its defaults and joins.

    Attributes:
        key: where the entry stands in the config, for messages.
        given: the entry.
        cls: its class, or None where no registry knows it.
    """

    def __init__(self, key: str, given: Mapping, scope: str) -> None:
        self.key, self.given = key, given
        kind = given.get("type")
        if isinstance(kind, str):
            name = kind if "." in kind else f"{given.get('_scope_', scope)}.{kind}"
            kind = DATASETS.get(name)
        self.cls = kind if inspect.isclass(kind) else None
        self.name = self.cls.__name__ if self.cls else str(given.get("type"))

    def get(self, name: str, default=None):
        """Return an argument: the entry's, else the default of the class or of its parents."""
        return self.given[name] if name in self.given else self.default(name, default)

    def default(self, name: str, default=None):
        """Return what the class, or a parent of it, takes where the entry gives nothing."""
        return find_default(self.cls, name, default)

    def takes(self, name: str) -> bool:
        """Whether the class has such an argument."""
        return find_parameter(self.cls, name) is not None

    @property
    def is_remote(self) -> bool:
        paths = (self.get("data_root"), self.get("ann_file"))
        return bool(self.get("backend_args")) or any("://" in str(p) for p in paths)

    def join(self, path: str) -> str:
        """Return a path as mmengine's BaseDataset joins it with data_root."""
        root = self.get("data_root") or ""
        return path if not root or (path and is_abs(path)) else join_path(root, path or "")

    @property
    def ann_file(self) -> str:
        given = self.get("ann_file") or ""
        return self.join(given) if given else ""

    def prefix(self, *names: str) -> tuple[str, str]:
        """Return (config key, folder) of the first of the prefixes that is given, or of the root.

        mmpretrain takes a plain string for the images' prefix.
        """
        prefixes = self.get("data_prefix") or {}
        if isinstance(prefixes, str):
            prefixes = {"img_path": prefixes}
        for name in names:
            if prefixes.get(name):
                return f"{self.key}.data_prefix.{name}", self.join(prefixes[name])
        return f"{self.key}.data_root", self.join("")

    def has_prefix(self, name: str) -> bool:
        prefixes = self.get("data_prefix") or {}
        return isinstance(prefixes, Mapping) and bool(prefixes.get(name))

    @property
    def class_defaults(self) -> list[str]:
        """The class names that the class itself has, in the order of the files' labels."""
        return list((getattr(self.cls, "METAINFO", None) or {}).get("classes") or ())

    @property
    def classes(self) -> list[str]:
        names = (self.given.get("metainfo") or {}).get("classes")
        if isinstance(names, str):  # mmengine reads such a file, a name a line
            names = Path(names).read_text().splitlines() if os.path.isfile(names) else ()
        return list(names or self.class_defaults)


def leaf_datasets(key: str, given: Mapping, scope: str) -> Iterator[DatasetConfig]:
    """Yield the data sets within wrappers such as RepeatDataset and ConcatDataset."""
    inner = given.get("dataset")
    if isinstance(inner, Mapping):
        yield from leaf_datasets(f"{key}.dataset", inner, given.get("_scope_", scope))
    elif isinstance(given.get("datasets"), list | tuple):
        for index, one in enumerate(given["datasets"]):
            if isinstance(one, Mapping):
                yield from leaf_datasets(f"{key}.datasets[{index}]", one, scope)
    else:
        yield DatasetConfig(key, given, scope)


def _check_dataset(data: DatasetConfig) -> None:
    root = data.get("data_root")
    if root:
        require_path(f"{data.key}.data_root", root)
    if data.has_prefix("seg_map_path"):
        check_label_maps(data)
    elif data.ann_file.endswith(".json"):
        if "Coco" in data.name or data.has_prefix("img"):
            check_coco(data)
        else:
            require_path(f"{data.key}.ann_file", data.ann_file, kind="file")
    elif data.ann_file:
        require_path(f"{data.key}.ann_file", data.ann_file, kind="file")
        require_path(*data.prefix("img_path", "img"))
    else:
        key, folder = data.prefix("img_path", "img")
        if folder:
            extensions = data.get("extensions") or data.get("img_suffix") or ()
            check_folder(key, folder, extensions)


def config_datasets(cfg: Mapping, splits: Iterable[str]) -> Iterator[DatasetConfig]:
    """Yield the data sets of a config's splits; what is built already is left alone."""
    scope = cfg.get("default_scope") or "mmengine"
    for name in (f"{split}_dataloader" for split in splits):
        loader = cfg.get(name)
        given = loader.get("dataset") if isinstance(loader, Mapping) else None
        if isinstance(given, Mapping):
            yield from leaf_datasets(f"{name}.dataset", given, scope)


def config_metrics(cfg: Mapping, splits: Iterable[str]) -> Iterator[tuple[str, Mapping]]:
    """Yield (config key, entry) of the metrics of a config's splits."""
    for key in (f"{split}_evaluator" for split in splits):
        given = cfg.get(key)
        if isinstance(given, Mapping):
            yield key, given
        for index, metric in enumerate(given if isinstance(given, list | tuple) else ()):
            if isinstance(metric, Mapping):
                yield f"{key}.{index}", metric


def _check_evaluators(cfg: Mapping, splits: Iterable[str]) -> None:
    for key, metric in config_metrics(cfg, splits):
        path = metric.get("ann_file")
        if isinstance(path, str) and "://" not in path:
            require_path(f"{key}.ann_file", path, kind="file")


def _class_counts(key: str, node: object) -> Iterator[tuple[str, int]]:
    """Yield (config key, num_classes) of the heads below a model's node; the RPN's is its own."""
    if isinstance(node, Mapping) and not str(node.get("type")).endswith("RPNHead"):
        if isinstance(node.get("num_classes"), int):
            yield f"{key}.num_classes", node["num_classes"]
        for name, inner in node.items():
            yield from _class_counts(f"{key}.{name}", inner)
    elif isinstance(node, list | tuple):
        for index, inner in enumerate(node):
            yield from _class_counts(f"{key}[{index}]", inner)


def _check_heads(model: object, data: DatasetConfig) -> None:
    """See that a model has an output per class.

    With too few, mmdet's metrics fail after the training, and mmseg's loss at the first label
    without one; with too many a segmentor trains outputs that nothing stands for.
    """
    if not (data.ann_file.endswith(".json") or data.has_prefix("seg_map_path")):
        return
    if not data.classes:
        return
    for key, count in _class_counts("model", model):
        if count != len(data.classes):
            raise UserError(
                key,
                count,
                expected=f"{len(data.classes)}, the number of {data.key}.metainfo.classes",
                fix="set num_classes of every head to it",
            )


def check_config_data(cfg: Mapping, splits: Iterable[str] = SPLITS) -> None:
    """Check the data of a config for pretraining, segmentation or detection.

    Args:
        cfg: an mmengine Config, whole.
        splits: of "train", "val" and "test", those to look at.

    Raises:
        UserError: naming the config key, for a missing or empty folder, a missing or broken
            annotation file, annotations of absent images, an image without its label map, a
            category or label that the classes lack, label maps that are numbered from 0 where
            the config takes them from 1 (or the other way round), a detector's head of another
            number of classes.
    """
    for data in config_datasets(cfg, splits):
        if data.given.get("type") is None:
            raise UserError(f"{data.key}.type", None, expected="the name of a dataset class")
        if not data.is_remote:
            _check_dataset(data)
        _check_heads(cfg.get("model"), data)
    _check_evaluators(cfg, splits)
