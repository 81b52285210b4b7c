"""Pictures of a pretraining: input, masked input, and reconstruction or target and prediction."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np

from mimseg.benchmark import pictures
from mimseg.benchmark.panels import evenly, load_model, load_run


def draw(runs: dict[str, Path], out: Path, count: int) -> dict[str, Any]:
    """Draw one pretraining run with images of its own training data."""
    import torch
    from mmengine.registry import DATASETS, FUNCTIONS

    ((name, folder),) = runs.items()
    config, checkpoint = load_run(folder)
    torch.manual_seed(0), np.random.seed(0), random.seed(0)  # crops and masks
    model = load_model(config, checkpoint, initialise=True)
    loader = config.train_dataloader
    dataset = DATASETS.build(loader.dataset)
    collate = FUNCTIONS.get(loader.get("collate_fn", {}).get("type", "pseudo_collate"))
    batch = collate([dataset[i] for i in evenly(len(dataset), count)])
    with torch.no_grad():
        shown = model.visualize(model.data_preprocessor(batch, False)["inputs"])
    arrays = {k: v.float().numpy() for k, v in shown.items() if isinstance(v, torch.Tensor)}
    columns, rows = compose(arrays, tuple(shown["grid"]))
    names = [
        [pictures.save(out / f"{r}_{c}.jpg", pictures.enlarge(cell)) for c, cell in enumerate(row)]
        for r, row in enumerate(rows)
    ]
    return {
        "title": name,
        "columns": columns,
        "rows": names,
        "legend": [],
        "note": _note(columns),
    }


def compose(
    shown: dict[str, np.ndarray], grid: tuple[int, int]
) -> tuple[list[str], list[list[np.ndarray]]]:
    """Column names and rows of pictures (H, W, 3) from what `MaskedImageModeling.visualize` gives.

    Args:
        shown: input (B, 3, H, W); optionally mask (B, L), and reconstruction (B, 3, H, W) or
            target and prediction (B, L, D), or (B, L, ...) for relations.
        grid: (h, w) of the L patches.
    """
    images = [pictures.to_bytes(image) for image in shown["input"]]
    columns, rows = ["Input"], [[image] for image in images]
    masks = shown["mask"].astype(bool) if "mask" in shown else None
    if masks is not None:
        columns.append("Masked input")
        for row, mask in zip(rows, masks, strict=True):
            row.append(pictures.hide(row[0], mask, grid))
    if "reconstruction" in shown:
        columns.append("Reconstruction")
        for row, image in zip(rows, shown["reconstruction"], strict=True):
            row.append(pictures.to_bytes(image))
    elif "target" in shown:
        columns += ["Target", "Prediction"]
        batch, length = shown["target"].shape[:2]
        flat = [shown[key].reshape(batch * length, -1) for key in ("target", "prediction")]
        maps = [m.reshape(batch, length, 3) for m in pictures.feature_maps(*flat)]
        for number, row in enumerate(rows):
            size = row[0].shape[:2]
            row += [pictures.tokens_to_image(m[number], grid, size) for m in maps]
    return columns, rows


def _note(columns: list[str]) -> str:
    if "Masked input" in columns:
        first = "Grey patches are hidden from the student."
    else:
        first = "The student sees the whole image."
    if "Reconstruction" in columns:
        return (
            f"{first} The reconstruction is what the head predicts at every patch; the loss counts "
            "hidden ones only."
        )
    return (
        f"{first} Target and prediction are numbers at each patch, features or relations: their "
        "three main components, fitted on the target, are shown as red, green and blue."
    )
