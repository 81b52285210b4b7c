"""Takes features out of a ViT."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from mimseg.data.transform import ImageLike, Transform
from mimseg.errors import UserError
from mimseg.outputs import Needs

if TYPE_CHECKING:
    from mimseg.students.vit import ViT


@torch.no_grad()
def features_of(
    vit: ViT,
    images: Tensor | ImageLike | Sequence[Tensor | ImageLike],
    layers: Sequence[int] | None = None,
) -> dict[str, Tensor | dict[int, Tensor] | None]:
    """Patch tokens, CLS token and, where asked for, the tokens after other blocks.

    Args:
        vit: the network; it runs in eval mode and is left in the mode that it had.
        images: a batch (B, 3, H, W), normalized, of any size; or one image or a list of them
            (paths, PIL images, uint8 arrays), which `vit.transform` makes ready. A ViT that
            `mimseg.load` did not make takes ImageNet's mean and std and the size of its grid.
        layers: block indices; negative ones count from the end.

    Returns:
        "patches": (B, h, w, C) after the final norm, if there is one; "cls": (B, C) likewise, None
        without a CLS token; with `layers`, "layers": {index as given: (B, h, w, C)}, of which the
        last block's is "patches" and the others have no norm.

    Raises:
        UserError: images of several sizes in one list, or a block that is not there.
    """
    weight = vit.patch_embed.projection.weight
    batch = _batch(vit, images).to(weight)
    training = vit.training
    vit.eval()
    try:
        out = vit.encode(batch, needs=Needs(layers=frozenset(layers or ())))
    finally:
        vit.train(training)
    taps = {
        layer: out.tokens if vit.block_index(layer) == vit.num_layers - 1 else out.taps[layer]
        for layer in layers or ()
    }
    features = {"patches": out.tokens.unflatten(1, out.grid), "cls": out.cls}
    if layers is not None:
        features["layers"] = {layer: tap.unflatten(1, out.grid) for layer, tap in taps.items()}
    return features


def _batch(vit: ViT, images: Tensor | ImageLike | Sequence[Tensor | ImageLike]) -> Tensor:
    if isinstance(images, Tensor):
        channels = vit.patch_embed.projection.in_channels
        if images.ndim != 4 or images.shape[1] != channels:
            raise UserError(
                "images",
                f"tensor of shape {tuple(images.shape)}",
                expected=f"a batch (B, {channels}, H, W)",
            )
        return images
    if isinstance(images, (str, Path, Image.Image, np.ndarray)):
        images = [images]
    sides = [side * vit.patch_size for side in vit.base_grid]
    transform = vit.transform or Transform(size=tuple(sides))
    ready = [x if isinstance(x, Tensor) else transform(x) for x in images]
    sizes = sorted({tuple(x.shape) for x in ready})
    if len(sizes) != 1:
        raise UserError(
            "images",
            f"shapes {sizes}",
            expected="one or more images that are of one size once transformed",
            fix="set transform.size, or give one image at a time",
        )
    return _batch(vit, torch.stack(ready))
