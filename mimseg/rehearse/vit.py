"""Makes the config of a vision transformer small."""

from __future__ import annotations

from dataclasses import dataclass

from mimseg.rehearse.size import Size
from mimseg.students.archs import ARCHS

WINDOW = 3  # patches; it divides no small grid, so that windows are padded as they may be


@dataclass(frozen=True)
class Student:
    """What the full-size student was; `img_size` is the longer side."""

    depth: int
    width: int
    patch_size: int
    img_size: int

    @property
    def grid(self) -> int:
        """Side of the token grid."""
        return -(-self.img_size // self.patch_size)


def shrink_vit(backbone: dict, size: Size, patch_size: int, img_size: int) -> Student:
    """Make the config of a `mimseg.ViT` small, in place; returns what it was."""
    arch = backbone.get("arch", "base")
    arch = ARCHS[arch] if isinstance(arch, str) else arch
    depth, old_size = arch["num_layers"], backbone.get("img_size", 224)
    old_size = old_size if isinstance(old_size, int) else max(old_size)
    old = Student(depth, arch["embed_dims"], backbone.get("patch_size", 16), old_size)
    # assigned, as mmengine's merging cannot put a dict in a string's place
    backbone["arch"] = dict(
        embed_dims=size.width,
        num_layers=size.depth,
        num_heads=size.heads(arch["num_heads"]),
        feedforward_channels=arch["feedforward_channels"] * size.width // arch["embed_dims"],
    )
    backbone.update(img_size=img_size, patch_size=patch_size)
    if backbone.get("last_block_heads"):
        backbone["last_block_heads"] = size.heads(backbone["last_block_heads"])
    if backbone.get("out_indices"):
        backbone["out_indices"] = size.taps(backbone["out_indices"], depth)
    if backbone.get("global_blocks"):
        backbone["global_blocks"] = size.layers(backbone["global_blocks"], depth)
    if backbone.get("window_size"):
        backbone["window_size"] = min(backbone["window_size"], WINDOW)
    backbone.pop("init_cfg", None)
    return old
