"""Draws a pretraining: input, masked input, and reconstruction or target and prediction."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np

from mimseg.benchmark import pictures
from mimseg.benchmark.trained import load_model, load_run, read_run_config, spread

Panels = dict[str, Any]


def draw_run(folder: Path, out: Path, count: int, images: Path | None = None) -> Panels:
    """Draw what a finished pretraining predicts.

    Args:
        folder: the run's work dir.
        out: where the pictures go.
        count: how many images.
        images: a folder of held-out images; None takes images that the run was trained with.
    """
    config, checkpoint = load_run(folder)
    _seed()
    model = load_model(config, checkpoint, initialize=True)
    columns, rows = _compose_batch(model, _batch(config, count, images))
    return _save(columns, rows, out) | {"note": note(columns, images, _true_statistics(model))}


def draw_data(
    config_file: Path, options: dict, out: Path, count: int, images: Path | None = None
) -> Panels:
    """Draw images and what the mask hides of them, before anything is trained."""
    from mmengine.registry import MODELS

    config = read_run_config(config_file, options)
    _seed()
    columns, rows = _compose_batch(MODELS.build(config.model), _batch(config, count, images))
    seen = ("Input", "Masked input")
    rows = [[c for name, c in zip(columns, row, strict=True) if name in seen] for row in rows]
    columns = [name for name in columns if name in seen]
    note = f"What the student sees. {_mask_note(columns)}"
    return _save(columns, rows, out) | {"note": note}


def compose(
    arrays: dict[str, np.ndarray], grid: tuple[int, int]
) -> tuple[list[str], list[list[np.ndarray]]]:
    """Column names and rows of pictures (H, W, 3) from what `MaskedImageModeling.visualize` gives.

    Args:
        arrays: input (B, 3, H, W); optionally mask (B, L), and reconstruction (B, 3, H, W) or
            target and prediction (B, L, D), or (B, L, ...) for relations.
        grid: (h, w) of the L patches.
    """
    images = [pictures.to_bytes(image) for image in arrays["input"]]
    columns, rows = ["Input"], [[image] for image in images]
    masks = arrays["mask"].astype(bool) if "mask" in arrays else None
    if masks is not None:
        columns.append("Masked input")
        for row, mask in zip(rows, masks, strict=True):
            row.append(pictures.hide(row[0], mask, grid))
    if "reconstruction" in arrays:
        columns.append("Reconstruction")
        for row, image in zip(rows, arrays["reconstruction"], strict=True):
            row.append(pictures.to_bytes(image))
    elif "target" in arrays:
        columns += ["Target", "Prediction"]
        batch, length = arrays["target"].shape[:2]
        flat = [arrays[key].reshape(batch * length, -1) for key in ("target", "prediction")]
        maps = [m.reshape(batch, length, 3) for m in pictures.feature_maps(*flat)]
        for number, row in enumerate(rows):
            size = row[0].shape[:2]
            row += [pictures.tokens_to_image(m[number], grid, size) for m in maps]
    return columns, rows


def _seed() -> None:
    """The same crops and masks in every picture."""
    import torch

    torch.manual_seed(0), np.random.seed(0), random.seed(0)


def _batch(config: Any, count: int, images: Path | None) -> Any:
    from mmengine.registry import DATASETS, FUNCTIONS

    loader = config.train_dataloader
    dataset = loader.dataset
    if images is not None:
        dataset = dict(
            type="mmpretrain.CustomDataset",
            data_root=str(images),
            with_label=False,
            pipeline=dataset.pipeline,
        )
    dataset = DATASETS.build(dataset)
    collate = FUNCTIONS.get(loader.get("collate_fn", {}).get("type", "pseudo_collate"))
    return collate([dataset[i] for i in spread(len(dataset), count)])


def _compose_batch(model: Any, batch: Any) -> tuple[list[str], list[list[np.ndarray]]]:
    import torch

    with torch.no_grad():
        content = model.visualize(model.data_preprocessor(batch, False)["inputs"])
    tensors = {key: value for key, value in content.items() if isinstance(value, torch.Tensor)}
    arrays = {key: value.float().numpy() for key, value in tensors.items()}
    return compose(arrays, tuple(content["grid"]))


def _save(columns: list[str], rows: list[list[np.ndarray]], out: Path) -> Panels:
    files = [
        [pictures.save(out / f"{r}_{c}.jpg", pictures.enlarge(cell)) for c, cell in enumerate(row)]
        for r, row in enumerate(rows)
    ]
    return {"columns": columns, "rows": files, "legend": []}


def _true_statistics(model: Any) -> bool:
    """Whether a reconstruction takes the mean and variance of each patch from the true image."""
    from mimseg.normalizations.token_layer_norm import TokenLayerNorm

    return isinstance(next(iter(model.objectives.values())).normalization, TokenLayerNorm)


def _mask_note(columns: list[str]) -> str:
    if "Masked input" in columns:
        return "Grey patches are hidden from the student."
    return "The student sees the whole image."


def note(columns: list[str], images: Path | None, true_statistics: bool) -> str:
    """What the pictures of a pretraining show.

    Args:
        columns: their names.
        images: the folder of held-out images; None for those of the training.
        true_statistics: whether a reconstruction has the true mean and variance of each patch.
    """
    sentences = ["Held-out images: the pretraining did not see them."]
    if images is None:
        sentences = ["Images from the training set."]
    sentences.append(_mask_note(columns))
    if "Reconstruction" in columns:
        sentences.append(
            "The reconstruction shows the prediction for every patch; the loss counts hidden "
            "patches only."
        )
        if true_statistics:
            sentences.append(
                "The network predicts each patch up to its brightness and contrast, so every "
                "patch of the reconstruction, hidden or not, is given the true mean and variance."
            )
    else:
        sentences.append(
            "Target and prediction are vectors at each patch, features or relations: their three "
            "main components, fitted on the target, are drawn as red, green and blue."
        )
    return " ".join(sentences)
