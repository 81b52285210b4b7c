"""Small vision transformers of our own."""

from __future__ import annotations

from dataclasses import dataclass

from mimseg.rehearse.size import Size
from mimseg.students.archs import ARCHS


@dataclass(frozen=True)
class Student:
    """What the full-size student was."""

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
    for key in ("out_indices", "global_blocks"):
        if backbone.get(key):
            backbone[key] = size.layers(backbone[key], depth)
    backbone.pop("init_cfg", None)
    return old
