"""Draws the ViT's weights, loads them and fits tables to another grid."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from mimseg.errors import UserError
from mimseg.layers.block import LayerScale, shrink_residual_branches
from mimseg.layers.decomposed_position import resize_axis_table
from mimseg.layers.position import resize_position_embedding, sincos_position_embedding
from mimseg.layers.relative_position import CLS_ROWS, resize_relative_table, table_size


def draw_weights(vit: nn.Module) -> None:
    """Draw every weight by `vit.weight_init`; position tables start as fixed, drawn or zero."""
    SCHEMES[vit.weight_init](vit)
    for module in vit.modules():
        if isinstance(module, nn.LayerNorm):
            nn.init.ones_(module.weight)
            nn.init.zeros_(module.bias)
        elif isinstance(module, LayerScale):
            nn.init.constant_(module.weight, module.value)
        for name in ("relative_position_bias_table", "rel_pos_h", "rel_pos_w"):
            if getattr(module, name, None) is not None:
                nn.init.zeros_(getattr(module, name))
    for token in (vit.cls_token, vit.mask_token):
        if token is not None:
            nn.init.normal_(token, std=0.02)
    if vit.pos_kind == "learned":
        nn.init.trunc_normal_(vit.pos_embed, std=0.02)
    elif vit.pos_kind == "sincos":
        with_cls = vit.cls_token is not None
        table = sincos_position_embedding(vit.base_grid, vit.embed_dims, with_cls)
        vit.pos_embed.data.copy_(table)


def _mae(vit: nn.Module) -> None:
    """Xavier uniform for linear layers and patches."""
    _linear(vit, nn.init.xavier_uniform_)


def _beit(vit: nn.Module) -> None:
    """Truncated normal (0.02), deeper residual branches smaller (arXiv 2106.08254, section 2.5)."""
    _linear(vit, lambda weight: nn.init.trunc_normal_(weight, std=0.02, a=-0.02, b=0.02))
    shrink_residual_branches(vit.layers)


SCHEMES = {"mae": _mae, "beit": _beit}


def _linear(vit: nn.Module, draw: Callable[[Tensor], object]) -> None:
    for module in vit.modules():
        if isinstance(module, nn.Linear):
            draw(module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    draw(vit.patch_embed.projection.weight.data.flatten(1))
    nn.init.zeros_(vit.patch_embed.projection.bias)


def load_pretrained(vit: nn.Module) -> None:
    """Load `vit.init_cfg`'s checkpoint; see `mimseg.checkpoints.loader` for what it refuses."""
    from mimseg.checkpoints.loader import load_backbone

    cfg = vit.init_cfg
    if cfg.get("type") != "Pretrained":
        raise UserError(
            "backbone.init_cfg.type",
            cfg.get("type"),
            expected="'Pretrained'",
            fix="draw weights with None",
        )
    load_backbone(vit, cfg["checkpoint"], trust=cfg.get("trust", False))


def resize_tables(vit: nn.Module, state: dict, prefix: str) -> list[str]:
    """Fit position tables in `state` to the model, in place; return the names of what changed.

    `pos_embed` and relative position tables are resized; a shared relative table is copied to each
    block of a model that has one per block.

    A checkpoint does not say its grid: it is taken to be square where the length is a square, else
    of our own grid's proportions. A table that fits neither way is left for the loader to refuse.
    """
    changed = _resize_absolute(vit, state, prefix)
    shared = f"{prefix}rel_pos_bias.relative_position_bias_table"
    if shared in state and vit.rel_pos_kind == "per_block":
        table = state.pop(shared)
        for index in range(vit.num_layers):
            name = f"{prefix}layers.{index}.attn.relative_position_bias_table"
            state[name] = table.clone()
            changed.append(name)
    tables = [n for n in state if n.startswith(prefix) and n.endswith("position_bias_table")]
    rows = table_size(vit.base_grid)
    for name in tables if vit.rel_pos_kind != "none" else ():
        old = None if state[name].shape[0] == rows else _square_table(state[name])
        if old is not None and old != vit.base_grid:
            state[name] = resize_relative_table(state[name], old, vit.base_grid, vit.rel_pos_resize)
            changed.append(name)
    for name, parameter in vit.named_parameters():
        if name.endswith((".rel_pos_h", ".rel_pos_w")) and f"{prefix}{name}" in state:
            table = state[f"{prefix}{name}"]
            if table.ndim == 2 and table.shape[0] != len(parameter):
                state[f"{prefix}{name}"] = resize_axis_table(table, len(parameter))
                changed.append(f"{prefix}{name}")
    return list(dict.fromkeys(changed))


def _square_table(table: Tensor) -> tuple[int, int] | None:
    """The square grid a relative position table was made for, or None."""
    offsets = round((table.shape[0] - CLS_ROWS) ** 0.5)
    if table.ndim != 2 or offsets**2 != table.shape[0] - CLS_ROWS or not offsets % 2:
        return None
    return (offsets // 2 + 1,) * 2


def _resize_absolute(vit: nn.Module, state: dict, prefix: str) -> list[str]:
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
