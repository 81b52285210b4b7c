"""Writes a backbone's weights for the model classes of other libraries."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from torch import Tensor

from mimseg.checkpoints.families import HF, TIMM, TIMM_BEIT
from mimseg.checkpoints.key_map import KeyMap
from mimseg.checkpoints.vit_shape import Shape, shape_of
from mimseg.errors import UserError

PREFIX = "backbone."
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


@dataclass(frozen=True)
class ModelClass:
    """A model class of another library, and how a backbone's weights are written for it.

    Args:
        library: the value of `--to`.
        name: the class, or that of its options.
        key_map: its names, those of files where they differ from the ones in memory.
        options: a shape -> the arguments to build the class with.
        needs: parts of a `Shape` that it cannot be without.
        lacks: endings of our names that it has no place for, to refuse.
        drops: our names that it has no place for and that change no feature.
    """

    library: str
    name: str
    key_map: KeyMap
    options: Callable[[Shape], dict]
    needs: tuple[str, ...] = ()
    lacks: tuple[str, ...] = ()
    drops: tuple[str, ...] = ()

    def misfit(self, state: dict[str, Tensor]) -> tuple[str, str] | None:
        """A key of ours that does not fit this class, and what it expects; None if all fit."""
        shape = shape_of(state)
        for part in self.needs:
            if not getattr(shape, part):
                name = {"cls": "cls_token", "bias": "layers.0.attn.qkv.bias"}.get(part, part)
                return name, f"a backbone with it: {self.name} always has one"
        for name in state:
            if name in self.drops:
                continue
            unknown = self.key_map.their_name(PREFIX + name) is None
            if unknown or any(name.endswith(end) for end in self.lacks):
                return name, f"a backbone without it: {self.name} has no place for it"
        return None

    def constructor(self, state: dict[str, Tensor]) -> str:
        """The class and its arguments, as code; `?` where the weights do not show one."""
        options = self.options(shape_of(state)).items()
        arguments = ", ".join(f"{name}={value!r}" for name, value in options)
        return f"{self.name}({arguments.replace('None', '?')})"

    def write(self, state: dict[str, Tensor]) -> tuple[dict[str, Tensor], list[str]]:
        """The weights by this class's names, and notes on them for people."""
        weights = {PREFIX + name: v for name, v in state.items() if name not in self.drops}
        notes = [f"left out: {name}, which only pretraining uses" for name in self.drops]
        notes = [note for note, name in zip(notes, self.drops, strict=True) if name in state]
        if self.key_map.split_bias and any(_has_key_bias(n, v) for n, v in state.items()):
            notes.append("left out: the keys' biases, which no softmax can see")
        options = self.options(shape_of(state)).keys()
        if "ln1.weight" not in state and not options & {"final_norm", "use_mean_pooling"}:
            notes.append("no final norm in IN: take the blocks' outputs, or make it an identity")
        return self.key_map.to_theirs(weights), notes


def _has_key_bias(name: str, value: Tensor) -> bool:
    return name.endswith("attn.qkv.bias") and bool(value.chunk(3)[1].any())


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
    options = dict(class_token=shape.cls, global_pool="token" if shape.cls else "")
    options |= {} if shape.pos_embed else dict(pos_embed="none")
    return _timm(shape) | options | ({} if shape.norm else dict(final_norm=False))


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


MODEL_CLASSES = (
    ModelClass(
        "timm",
        "timm.models.VisionTransformer",
        TIMM,
        _timm_vit,
        lacks=(_TABLE,),
        drops=("mask_token",),
    ),
    ModelClass("timm", "timm.models.Beit", TIMM_BEIT, _timm_beit, ("cls",), drops=("mask_token",)),
    ModelClass(
        "hf",
        "transformers.ViTConfig",
        HF,
        _hf_vit,
        needs=("cls", "pos_embed"),
        lacks=(_TABLE, *_GAMMA),
    ),
    ModelClass(
        "hf", "transformers.BeitConfig", replace(HF, split_bias=True), _hf_beit, ("cls", "bias")
    ),
    ModelClass(
        "mmpretrain",
        "mmpretrain.VisionTransformer",
        _MMPRETRAIN,
        _mmpretrain_vit,
        needs=("pos_embed",),
        lacks=(_TABLE,),
    ),
    ModelClass("mmpretrain", "mmpretrain.BEiTViT", _MMPRETRAIN_BEIT, _mmpretrain_beit, ("cls",)),
)


def choose_class(
    library: str, state: dict[str, Tensor], model: str = "auto", key: str = "IN"
) -> ModelClass:
    """The class of a library for a backbone's weights in our names.

    Args:
        model: "vit", "beit", or "auto" for the plain class where the weights fit, else BEiT's.

    Raises:
        UserError: no class of the library, or not the one asked for, can hold a weight.
    """
    vit, beit = (entry for entry in MODEL_CLASSES if entry.library == library)
    candidates = {"auto": (vit, beit), "vit": (vit,), "beit": (beit,)}[model]
    misfits = [candidate.misfit(state) for candidate in candidates]
    for candidate, misfit in zip(candidates, misfits, strict=True):
        if misfit is None:
            return candidate
    name, expected = misfits[0]
    other = beit if model == "vit" else vit
    fits = model != "auto" and other.misfit(state) is None
    if not fits and len(misfits) > 1:
        name, expected = misfits[-1]  # BEiT's class holds more
    fix = "--to mimseg keeps everything"
    if fits:
        fix = f"{other.name} can hold it: --model {'beit' if other is beit else 'vit'}"
    raise UserError(key, name, expected=expected, fix=fix)
