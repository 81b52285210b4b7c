"""Reads the images of a folder as squares for a network."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from mimseg.data.checks.folder import check_folder, walk_files
from mimseg.data.loading import LoadImageFromFile
from mimseg.errors import UserError

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")


class FolderImages(Dataset):
    """The images of a folder and its sub-folders, in the order of their names.

    The short side is resized to `size`, antialiased and bicubic, and the center is cut out.

    Args:
        folder: where to look.
        size: side of the squares.
        limit: number of images, spread evenly over all; None takes all.

    Raises:
        UserError: no folder, no images in it, or a number that cannot be.
    """

    def __init__(self, folder: str | Path, size: int = 224, limit: int | None = None) -> None:
        if size < 1:
            raise UserError("--size", size, expected="a side of 1 px or more")
        if limit is not None and limit < 1:
            raise UserError("--limit", limit, expected="1 image or more")
        check_folder("--images", str(folder), SUFFIXES)
        self.folder, self.size = Path(folder), size
        names = sorted(walk_files(str(folder), SUFFIXES))
        count = len(names) if limit is None else min(limit, len(names))
        self.names = [names[(2 * i + 1) * len(names) // (2 * count)] for i in range(count)]
        self.load = LoadImageFromFile()

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> tuple[int, Tensor | None]:
        """Its number and (3, size, size) uint8 RGB; None for one that does not open."""
        loaded = self.load.transform({"img_path": str(self.folder / self.names[index])})
        if loaded is None:
            return index, None
        image = Image.fromarray(np.ascontiguousarray(loaded["img"][..., ::-1]))
        width, height = image.size
        short = min(width, height)
        left, top = (width - short) / 2, (height - short) / 2
        box = (left, top, left + short, top + short)
        image = image.resize((self.size, self.size), Image.Resampling.BICUBIC, box=box)
        return index, torch.from_numpy(np.asarray(image).transpose(2, 0, 1).copy())

    def batches(self, batch_size: int, workers: int) -> DataLoader:
        """Batches of (indices, images (B, 3, H, W) in [0, 1] or None), unreadable ones left out."""
        return DataLoader(self, batch_size, num_workers=workers, collate_fn=_collate)


def _collate(items: list[tuple[int, Tensor | None]]) -> tuple[list[int], Tensor | None]:
    opened = [(index, image) for index, image in items if image is not None]
    if not opened:
        return [], None
    return [index for index, _ in opened], torch.stack([image for _, image in opened]).float() / 255
