"""Draws segmentation and detection next to the truth, with the same images for every run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mimseg.benchmark import pictures
from mimseg.benchmark.trained import load_model, load_run, read_run_config, spread

SCORE = 0.3  # detections below are not drawn
Panels = dict[str, Any]


class LabelMaps:
    """Draws label maps over images."""

    note = "Pale grey is not labeled."
    run_note = note

    def truth(self, image: np.ndarray, data: Any, info: dict, colors: np.ndarray) -> np.ndarray:
        return pictures.overlay_labels(image, _map(data["data_samples"].gt_sem_seg), colors)

    def prediction(self, image: np.ndarray, sample: Any, colors: np.ndarray) -> np.ndarray:
        return pictures.overlay_labels(image, _map(sample.pred_sem_seg), colors)


class Objects:
    """Draws boxes and masks over images."""

    note = ""
    run_note = f"Detections with a score over {SCORE}."

    def truth(self, image: np.ndarray, data: Any, info: dict, colors: np.ndarray) -> np.ndarray:
        objects = [item for item in info["instances"] if not item.get("ignore_flag")]
        boxes = np.array([item["bbox"] for item in objects], dtype=float).reshape(-1, 4)
        labels = np.array([item["bbox_label"] for item in objects], dtype=int)
        masks = None
        if objects and all(item.get("mask") for item in objects):
            masks = np.stack([_decode(item["mask"], *image.shape[:2]) for item in objects])
        return pictures.overlay_objects(image, boxes, labels, colors, masks)

    def prediction(self, image: np.ndarray, sample: Any, colors: np.ndarray) -> np.ndarray:
        objects = sample.pred_instances
        objects = objects[objects.scores >= SCORE]
        labels, scores = objects.labels.numpy(), objects.scores.numpy()
        masks = objects.masks.numpy().astype(bool) if "masks" in objects else None
        captions = [f"{score:.2f}" for score in scores]  # the color names the class
        boxes = objects.bboxes.numpy()
        return pictures.overlay_objects(image, boxes, labels, colors, masks, captions)


KINDS: dict[str, LabelMaps | Objects] = {"semseg": LabelMaps(), "detection": Objects()}


@dataclass
class _Images:
    """Images of a dataset with their truth, spread over its test split."""

    dataset: Any
    numbers: list[int]
    colors: np.ndarray

    @classmethod
    def of(cls, config: Any, count: int) -> _Images:
        from mmengine.registry import DATASETS

        loader = config.get("test_dataloader") or config.val_dataloader
        dataset = DATASETS.build(loader.dataset)
        names = dataset.metainfo["classes"]
        colors = pictures.colors_of(len(names), _palette(dataset))
        return cls(dataset, spread(len(dataset), count), colors)

    def image(self, number: int) -> np.ndarray:
        return _read(self.dataset.get_data_info(number)["img_path"])

    def save_truth(self, kind: LabelMaps | Objects, out: Path) -> dict[int, list[str]]:
        """Files of each image and its truth, by number."""
        files = {}
        for number in self.numbers:
            image, info = self.image(number), self.dataset.get_data_info(number)
            truth = kind.truth(image, self.dataset[number], info, self.colors)
            first = pictures.save(out / f"{number}_image.jpg", pictures.enlarge(image))
            files[number] = [first, pictures.save(out / f"{number}_truth.jpg", truth)]
        return files

    def legend(self) -> list[dict[str, str]]:
        return [
            {"name": name, "color": "#{:02x}{:02x}{:02x}".format(*(int(c) for c in color))}
            for name, color in zip(self.dataset.metainfo["classes"], self.colors, strict=True)
        ]


def draw_runs(kind: LabelMaps | Objects, runs: dict[str, Path], out: Path, count: int) -> Panels:
    """Draw the truth, then each finished run's prediction.

    Args:
        kind: of KINDS.
        runs: work dirs by the name of their column.
        out: where the pictures go.
        count: how many images.
    """
    import torch
    from mmengine.dataset import pseudo_collate

    files: dict[int, list[str]] = {}
    for column, folder in enumerate(runs.values()):
        config, checkpoint = load_run(folder)
        images = _Images.of(config, count)
        files = files or images.save_truth(kind, out)
        model = load_model(config, checkpoint)
        for number in images.numbers:
            with torch.no_grad():
                (sample,) = model.test_step(pseudo_collate([images.dataset[number]]))
            picture = kind.prediction(images.image(number), sample.cpu(), images.colors)
            files[number].append(pictures.save(out / f"{number}_run{column}.jpg", picture))
    return {
        "columns": ["Image", "Truth", *runs],
        "rows": list(files.values()),
        "legend": images.legend(),
        "note": f"Images of the test split. {kind.run_note}".strip(),
    }


def draw_data(
    kind: LabelMaps | Objects, config_file: Path, options: dict, out: Path, count: int
) -> Panels:
    """Draw images and their labels, before anything is trained."""
    images = _Images.of(read_run_config(config_file, options), count)
    return {
        "columns": ["Image", "Truth"],
        "rows": list(images.save_truth(kind, out).values()),
        "legend": images.legend(),
        "note": f"Images of the test split and their labels. {kind.note}".strip(),
    }


def _palette(dataset: Any) -> list | None:
    """The palette that belongs to the dataset's classes; mmseg draws a random one for others."""
    metainfo = getattr(type(dataset), "METAINFO", {})
    same_classes = tuple(metainfo.get("classes", ())) == tuple(dataset.metainfo["classes"])
    return metainfo.get("palette") if same_classes else None


def _map(pixels: Any) -> np.ndarray:
    return pixels.data.squeeze(0).cpu().numpy().astype(int)


def _read(path: str) -> np.ndarray:
    from PIL import Image

    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


def _decode(mask: Any, height: int, width: int) -> np.ndarray:
    """COCO polygons or RLE -> (H, W) bool."""
    from faster_coco_eval.core import mask as coco

    if isinstance(mask, list):
        mask = coco.merge(coco.frPyObjects(mask, height, width))
    elif isinstance(mask["counts"], list):
        mask = coco.frPyObjects(mask, height, width)
    return coco.decode(mask).astype(bool)
