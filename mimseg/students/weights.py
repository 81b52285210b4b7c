"""The ViT's weights: drawing them, loading them, fitting tables to another grid."""

from __future__ import annotations

from torch import nn

from mimseg.errors import UserError
from mimseg.layers.block import LayerScale
from mimseg.layers.position import resize_position_embedding, sincos_position_embedding


def draw_weights(vit: nn.Module) -> None:
    """MAE's scheme: Xavier uniform for linear layers and patches, normal (0.02) for tokens."""
    for module in vit.modules():
        if isinstance(module, nn.Linear):
            nn.init.xavier_uniform_(module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.LayerNorm):
            nn.init.ones_(module.weight)
            nn.init.zeros_(module.bias)
        elif isinstance(module, LayerScale):
            nn.init.constant_(module.weight, module.value)
    projection = vit.patch_embed.projection
    nn.init.xavier_uniform_(projection.weight.data.flatten(1))
    nn.init.zeros_(projection.bias)
    for token in (vit.cls_token, vit.mask_token):
        if token is not None:
            nn.init.normal_(token, std=0.02)
    if vit.pos_kind == "learned":
        nn.init.trunc_normal_(vit.pos_embed, std=0.02)
    elif vit.pos_kind == "sincos":
        with_cls = vit.cls_token is not None
        table = sincos_position_embedding(vit.base_grid, vit.embed_dims, with_cls)
        vit.pos_embed.data.copy_(table)


def load_pretrained(vit: nn.Module) -> None:
    """Load `vit.init_cfg`'s checkpoint; see `mimseg.checkpoints.loader` for what it refuses."""
    from mimseg.checkpoints.loader import load_backbone

    cfg = vit.init_cfg
    if cfg.get("type") != "Pretrained":
        raise UserError(
            "backbone.init_cfg.type", cfg.get("type"), "'Pretrained'", "draw weights with None"
        )
    load_backbone(vit, cfg["checkpoint"], trust=cfg.get("trust", False))


def resize_tables(vit: nn.Module, state: dict, prefix: str) -> list[str]:
    """Resize `pos_embed` in `state` to the model's grid; return the names of what was resized.

    A checkpoint does not say its grid: it is taken to be square where the length is a square, else
    of our own grid's proportions. A table that fits neither way is left for the loader to refuse.
    """
    name = f"{prefix}pos_embed"
    if vit.pos_embed is None or name not in state or state[name].ndim != 3:
        return []
    table, with_cls = state[name], vit.cls_token is not None
    length = table.shape[1] - int(with_cls)
    if table.shape[1] == vit.pos_embed.shape[1] or table.shape[2] != vit.embed_dims:
        return []
    side = round(length**0.5)
    if side * side != length:
        side = max(1, round((length * vit.base_grid[0] / vit.base_grid[1]) ** 0.5))
    if length % side:
        return []
    grid = (side, length // side)
    state[name] = resize_position_embedding(table, grid, vit.base_grid, with_cls)
    return [name]
