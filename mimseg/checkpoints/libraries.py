"""The model classes of other libraries that a backbone can be written for."""

from __future__ import annotations

from dataclasses import replace

from torch import Tensor

from mimseg.checkpoints.families import HF, TIMM, TIMM_BEIT
from mimseg.checkpoints.key_map import KeyMap
from mimseg.checkpoints.library import PREFIX, Target
from mimseg.checkpoints.shape import Shape
from mimseg.errors import UserError

_STEM = ("cls_token", "pos_embed", "mask_token", "patch_embed.projection", "ln1", "rel_pos_bias")
_BLOCK = ("ln1", "ln2", "attn.qkv", "attn.proj", "ffn.layers.0.0", "ffn.layers.1")
_GAMMA = ("attn.gamma1.weight", "ffn.gamma2.weight")
_TABLE = "relative_position_bias_table"

_MMPRETRAIN = KeyMap(
    "mmpretrain",
    blocks={"backbone.layers": "backbone.layers"},
    stem={PREFIX + name: PREFIX + name for name in _STEM},
    block={name: name for name in (*_BLOCK, *_GAMMA)},
)
_MMPRETRAIN_BEIT = replace(
    _MMPRETRAIN,
    block={name: name for name in (*_BLOCK, f"attn.{_TABLE}")}
    | {f"gamma_{i}": name for i, name in enumerate(_GAMMA, 1)},
    split_bias=True,
)


def _timm(shape: Shape) -> dict:
    scale = {} if shape.gamma is None else dict(init_values=shape.gamma)
    sizes = dict(
        img_size=shape.img_size,
        patch_size=shape.patch,
        embed_dim=shape.width,
        depth=shape.depth,
        num_heads=shape.heads,
        mlp_ratio=shape.hidden / shape.width,
        qkv_bias=shape.bias,
        num_classes=0,
    )
    return sizes | scale


def _timm_vit(shape: Shape) -> dict:
    own = dict(class_token=shape.cls, global_pool="token" if shape.cls else "")
    own |= {} if shape.pos_embed else dict(pos_embed="none")
    return _timm(shape) | own | ({} if shape.norm else dict(final_norm=False))


def _timm_beit(shape: Shape) -> dict:
    return _timm(shape) | dict(
        use_abs_pos_emb=shape.pos_embed,
        use_rel_pos_bias=shape.tables == "per_block",
        use_shared_rel_pos_bias=shape.tables == "shared",
        global_pool="token",
    )


def _hf(shape: Shape) -> dict:
    return dict(
        hidden_size=shape.width,
        num_hidden_layers=shape.depth,
        num_attention_heads=shape.heads,
        intermediate_size=shape.hidden,
        image_size=shape.img_size,
        patch_size=shape.patch,
        layer_norm_eps=1e-6,
        use_mask_token=shape.mask_token,
    )


def _hf_vit(shape: Shape) -> dict:
    return _hf(shape) | dict(qkv_bias=shape.bias)


def _hf_beit(shape: Shape) -> dict:
    return _hf(shape) | dict(
        use_absolute_position_embeddings=shape.pos_embed,
        use_relative_position_bias=shape.tables == "per_block",
        use_shared_relative_position_bias=shape.tables == "shared",
        layer_scale_init_value=shape.gamma or 0,
        use_mean_pooling=not shape.norm,
    )


def _mmpretrain(shape: Shape) -> dict:
    arch = dict(embed_dims=shape.width, num_layers=shape.depth, num_heads=shape.heads)
    return dict(
        arch=arch | dict(feedforward_channels=shape.hidden),
        img_size=shape.img_size,
        patch_size=shape.patch,
        layer_scale_init_value=shape.gamma or 0.0,
        final_norm=shape.norm,
        out_type="featmap",
    )


def _mmpretrain_vit(shape: Shape) -> dict:
    return _mmpretrain(shape) | dict(qkv_bias=shape.bias, with_cls_token=shape.cls)


def _mmpretrain_beit(shape: Shape) -> dict:
    return _mmpretrain(shape) | dict(
        bias="qv_bias" if shape.bias else False,
        use_abs_pos_emb=shape.pos_embed,
        use_rel_pos_bias=shape.tables == "per_block",
        use_shared_rel_pos_bias=shape.tables == "shared",
    )


TARGETS = (
    Target(
        "timm",
        "timm.models.VisionTransformer",
        TIMM,
        _timm_vit,
        lacks=(_TABLE,),
        drops=("mask_token",),
    ),
    Target("timm", "timm.models.Beit", TIMM_BEIT, _timm_beit, ("cls",), drops=("mask_token",)),
    Target(
        "hf",
        "transformers.ViTConfig",
        HF,
        _hf_vit,
        needs=("cls", "pos_embed"),
        lacks=(_TABLE, *_GAMMA),
    ),
    Target(
        "hf", "transformers.BeitConfig", replace(HF, split_bias=True), _hf_beit, ("cls", "bias")
    ),
    Target(
        "mmpretrain",
        "mmpretrain.VisionTransformer",
        _MMPRETRAIN,
        _mmpretrain_vit,
        needs=("pos_embed",),
        lacks=(_TABLE,),
    ),
    Target("mmpretrain", "mmpretrain.BEiTViT", _MMPRETRAIN_BEIT, _mmpretrain_beit, ("cls",)),
)


def choose(library: str, state: dict[str, Tensor], model: str = "auto", key: str = "IN") -> Target:
    """The class of a library for a backbone's weights in our names.

    Args:
        model: "vit", "beit", or "auto" for the plain class where the weights fit, else BEiT's.

    Raises:
        UserError: no class of the library, or not the one asked for, can hold a weight.
    """
    vit, beit = (target for target in TARGETS if target.library == library)
    candidates = {"auto": (vit, beit), "vit": (vit,), "beit": (beit,)}[model]
    misfits = [target.misfit(state) for target in candidates]
    for target, misfit in zip(candidates, misfits, strict=True):
        if misfit is None:
            return target
    name, wanted = misfits[0]
    other = beit if model == "vit" else vit
    fits = model != "auto" and other.misfit(state) is None
    if not fits and len(misfits) > 1:
        name, wanted = misfits[-1]  # BEiT's class holds more
    raise UserError(
        key,
        name,
        expected=wanted,
        fix=f"{other.name} can hold it: --model {'beit' if other is beit else 'vit'}"
        if fits
        else "--to mimseg keeps everything",
    )
