"""What the weights of a ViT tell of the options that it was built with."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from mimseg.checkpoints.report import layer_indices
from mimseg.layers.relative_position import CLS_ROWS

_TABLE = "relative_position_bias_table"


@dataclass(frozen=True)
class Shape:
    """The options of a ViT, as far as its weights tell; None where they do not.

    Args:
        width, depth, hidden, patch, channels: sizes.
        side: side of the square grid that its position tables were made for.
        heads: head count, which only relative position tables tell.
        cls, pos_embed, mask_token, bias, norm: whether it has these; `bias` that of the qkv layer.
        gamma: the first layer scale's mean size, above 0; None without one.
        tables: "none", "shared" or "per_block" relative position tables.
    """

    width: int
    depth: int
    hidden: int
    patch: int
    channels: int
    side: int | None
    heads: int | None
    cls: bool
    pos_embed: bool
    mask_token: bool
    bias: bool
    norm: bool
    gamma: float | None
    tables: str

    @property
    def img_size(self) -> int | None:
        return None if self.side is None else self.side * self.patch

    def options(self) -> dict:
        """Those of `mimseg.ViT`, the arch's sizes and defaults left out."""
        found = {
            "patch_size": self.patch,
            "img_size": self.img_size,
            "in_channels": None if self.channels == 3 else self.channels,
            "mask_mode": "token" if self.mask_token else None,
            "pos_embed": None if self.pos_embed else "none",
            "rel_pos_bias": None if self.tables == "none" else self.tables,
            "layer_scale": self.gamma,
            "qkv_bias": None if self.bias else False,
            "with_cls_token": None if self.cls else False,
            "final_norm": None if self.norm else False,
        }
        return {name: value for name, value in found.items() if value is not None}

    def __str__(self) -> str:
        text = ", ".join(f"{name}={value!r}" for name, value in self.options().items())
        return f"{self.depth} blocks of width {self.width}; mimseg.ViT({text})"


def shape_of(state: dict[str, Tensor]) -> Shape:
    """The shape of a ViT from its weights in our names, "layers.0.ln1.weight"."""
    width, channels, _, patch = state["patch_embed.projection.weight"].shape
    own, shared = f"layers.0.attn.{_TABLE}", f"rel_pos_bias.{_TABLE}"
    table = state.get(own, state.get(shared))
    pos, gamma = state.get("pos_embed"), state.get("layers.0.attn.gamma1.weight")
    side = None
    if pos is not None:
        side = _root(pos.shape[1] - ("cls_token" in state))
    elif table is not None and (offsets := _root(table.shape[0] - CLS_ROWS)):
        side = (offsets + 1) // 2
    return Shape(
        width=width,
        depth=len(layer_indices(state)),
        hidden=state["layers.0.ffn.layers.0.0.weight"].shape[0],
        patch=patch,
        channels=channels,
        side=side,
        heads=None if table is None else table.shape[1],
        cls="cls_token" in state,
        pos_embed=pos is not None,
        mask_token="mask_token" in state,
        bias="layers.0.attn.qkv.bias" in state,
        norm="ln1.weight" in state,
        gamma=None if gamma is None else float(f"{float(gamma.abs().mean()):.2g}") or 1e-6,
        tables="per_block" if own in state else "shared" if shared in state else "none",
    )


def _root(number: int) -> int | None:
    side = round(max(number, 0) ** 0.5)
    return side if side * side == number else None
