"""Pictures of segmentation and detection beside the truth, the same images for every run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from mimseg.benchmark import pictures
from mimseg.benchmark.panels import evenly, load_model, load_run

SCORE = 0.3  # detections below are not drawn


def draw_semseg(runs: dict[str, Path], out: Path, count: int) -> dict[str, Any]:
    """Overlays of the label maps: truth, then each run's prediction."""

    def truth(image: np.ndarray, data: Any, info: dict, colors: np.ndarray) -> np.ndarray:
        return pictures.overlay_labels(image, _map(data["data_samples"].gt_sem_seg), colors)

    def prediction(image: np.ndarray, sample: Any, colors: np.ndarray) -> np.ndarray:
        return pictures.overlay_labels(image, _map(sample.pred_sem_seg), colors)

    panels = _draw(runs, out, count, truth, prediction)
    return panels | {"note": "Images of the test split. Pale grey is not labelled."}


def draw_detection(runs: dict[str, Path], out: Path, count: int) -> dict[str, Any]:
    """Boxes and masks: truth, then each run's detections above the score."""

    def truth(image: np.ndarray, data: Any, info: dict, colors: np.ndarray) -> np.ndarray:
        found = [item for item in info["instances"] if not item.get("ignore_flag")]
        boxes = np.array([item["bbox"] for item in found], dtype=float).reshape(-1, 4)
        labels = np.array([item["bbox_label"] for item in found], dtype=int)
        masks = None
        if found and all(item.get("mask") for item in found):
            masks = np.stack([_decode(item["mask"], *image.shape[:2]) for item in found])
        return pictures.overlay_objects(image, boxes, labels, colors, masks)

    def prediction(image: np.ndarray, sample: Any, colors: np.ndarray) -> np.ndarray:
        found = sample.pred_instances
        found = found[found.scores >= SCORE]
        labels, scores = found.labels.numpy(), found.scores.numpy()
        masks = found.masks.numpy().astype(bool) if "masks" in found else None
        captions = [f"{score:.2f}" for score in scores]  # the colour names the class
        boxes = found.bboxes.numpy()
        return pictures.overlay_objects(image, boxes, labels, colors, masks, captions)

    panels = _draw(runs, out, count, truth, prediction)
    return panels | {"note": f"Images of the test split. Detections with a score over {SCORE}."}


def _draw(
    runs: dict[str, Path], out: Path, count: int, truth: Callable, prediction: Callable
) -> dict[str, Any]:
    import torch
    from mmengine.dataset import pseudo_collate
    from mmengine.registry import DATASETS

    rows: dict[int, list[str]] = {}
    for column, folder in enumerate(runs.values()):
        config, checkpoint = load_run(folder)
        dataset = DATASETS.build((config.get("test_dataloader") or config.val_dataloader).dataset)
        model = load_model(config, checkpoint)
        names = list(dataset.metainfo["classes"])
        colors = pictures.colors_of(len(names), _palette(dataset))
        for number in evenly(len(dataset), count):
            data, info = dataset[number], dataset.get_data_info(number)
            image = _read(info["img_path"])
            if number not in rows:
                shown = truth(image, data, info, colors)
                first = pictures.save(out / f"{number}_image.jpg", pictures.enlarge(image))
                rows[number] = [first, pictures.save(out / f"{number}_truth.jpg", shown)]
            with torch.no_grad():
                (sample,) = model.test_step(pseudo_collate([data]))
            shown = prediction(image, sample.cpu(), colors)
            rows[number].append(pictures.save(out / f"{number}_run{column}.jpg", shown))
    legend = [
        {"name": name, "color": "#{:02x}{:02x}{:02x}".format(*(int(c) for c in color))}
        for name, color in zip(names, colors, strict=True)
    ]
    return {
        "title": "",
        "columns": ["Image", "Truth", *runs],
        "rows": list(rows.values()),
        "legend": legend,
    }


def _palette(dataset: Any) -> list | None:
    """The palette that belongs to the dataset's classes; mmseg draws a random one for others."""
    own = getattr(type(dataset), "METAINFO", {})
    known = tuple(own.get("classes", ())) == tuple(dataset.metainfo["classes"])
    return own.get("palette") if known else None


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
