"""Lists the families of checkpoints, with the names of each and the marks to recognise it by."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass

from mimseg.checkpoints.key_map import BLOCK, KeyMap

_HEAD = "objectives.loss.head"
_DECODER = {
    "mask_token": f"{_HEAD}.mask_token",
    "decoder_embed": f"{_HEAD}.embed",
    "decoder_norm": f"{_HEAD}.norm",
}
_STACKS = {"blocks": "backbone.layers", "decoder_blocks": f"{_HEAD}.layers"}
_INDEX = ("relative_position_index",)
_MASK_TOKEN = {"mask_token": "backbone.mask_token"}

MAE = KeyMap(
    "MAE",
    modules={**_DECODER, "decoder_pred": f"{_HEAD}.projection"},
    blocks=_STACKS,
    fixed=("decoder_pos_embed",),
)
DBOT = KeyMap(
    "dBOT (main)",
    modules={**_DECODER, "decoder_predp": f"{_HEAD}.projection"},
    blocks=_STACKS,
    fixed=("decoder_pos_embed",),
)
# BEiT v2 and dBOT's symmetric system share one model class
BEIT = KeyMap(
    "BEiT",
    modules={**_MASK_TOKEN, "lm_head": f"{_HEAD}.projection"},
    # BEiT v2's patch aggregation
    blocks={"blocks": "backbone.layers", "cls_pt_layers": f"{_HEAD}.layers"},
    fixed=_INDEX,
    split_bias=True,
)
TINYMIM = KeyMap("TinyMIM")

# timm's two classes; on import, with what official downstream codes add to a plain one
PLAIN = KeyMap("plain ViT", modules=_MASK_TOKEN, fixed=_INDEX)
_LAYER_SCALE = {"ls1.gamma": "attn.gamma1.weight", "ls2.gamma": "ffn.gamma2.weight"}
TIMM = KeyMap(
    "timm",
    modules=_MASK_TOKEN,
    block={k: v for k, v in BLOCK.items() if not k.startswith("gamma")} | _LAYER_SCALE,
)
TIMM_BEIT = KeyMap("timm's Beit", modules=_MASK_TOKEN, fixed=_INDEX, split_bias=True)

_HF_STEM = {
    "embeddings.cls_token": "backbone.cls_token",
    "embeddings.mask_token": "backbone.mask_token",
    "embeddings.position_embeddings": "backbone.pos_embed",
    "embeddings.patch_embeddings.projection": "backbone.patch_embed.projection",
    "layernorm": "backbone.ln1",
}
_HF_BLOCK = {
    "layernorm_before": "ln1",
    "layernorm_after": "ln2",
    "qkv": "attn.qkv",
    "lambda_1": "attn.gamma1.weight",
    "lambda_2": "ffn.gamma2.weight",
}
_TABLE = "relative_position_bias.relative_position_bias_table"
HF = KeyMap(
    "Hugging Face",
    blocks={"encoder.layer": "backbone.layers"},
    fixed=_INDEX,
    stem=_HF_STEM | {"encoder.relative_position_bias": "backbone.rel_pos_bias"},
    block=_HF_BLOCK
    | {
        "attention.output.dense": "attn.proj",
        "intermediate.dense": "ffn.layers.0.0",
        "output.dense": "ffn.layers.1",
        f"attention.attention.{_TABLE}": "attn.relative_position_bias_table",
    },
    separate=tuple(f"attention.attention.{part}" for part in ("query", "key", "value")),
)
# what transformers 5 calls them in memory; its files still have the names above
HF5 = KeyMap(
    "Hugging Face",
    blocks={"layers": "backbone.layers"},
    fixed=_INDEX,
    stem=_HF_STEM | {"shared_position_bias": "backbone.rel_pos_bias"},
    block=_HF_BLOCK
    | {
        "attention.o_proj": "attn.proj",
        "mlp.fc1": "ffn.layers.0.0",
        "mlp.fc2": "ffn.layers.1",
        _TABLE: "attn.relative_position_bias_table",
    },
    separate=tuple(f"attention.{part}_proj" for part in "qkv"),
)


@dataclass(frozen=True)
class Family:
    """One way a checkpoint may be named.

    Args:
        names: the values of `--from` for it. Several, where keys cannot tell them apart and all
            load the same way; the likeliest first.
        says: what the checkpoint is.
        anchor: the name of the patch embedding's weight, by which its backbone is found.
        key_map: to our names; None for our own, which are mmpretrain's.
        marks: patterns, each of which one of the names must match.
    """

    names: tuple[str, ...]
    says: str
    anchor: str
    key_map: KeyMap | None
    marks: tuple[str, ...] = ()

    def fits(self, names: Collection[str]) -> bool:
        """Whether these names may be of this family."""
        return all(any(re.search(mark, name) for name in names) for mark in self.marks)

    def __str__(self) -> str:
        return f"{' | '.join(self.names)}: {self.says}"


TIMM_ANCHOR = _PROJ = "patch_embed.proj.weight"
_HF_ANCHOR = "embeddings.patch_embeddings.projection.weight"
OWN_ANCHOR = "patch_embed.projection.weight"
_BEITS = ("beit", "beit2", "dbot-beit")

# of one anchor, the first that fits
FAMILIES = (
    Family(("mimseg",), "mimseg's own training", OWN_ANCHOR, None, (r"^objectives\.",)),
    Family(("mimseg", "mmpretrain"), "our names, which are mmpretrain's", OWN_ANCHOR, None),
    Family(("dbot",), "dBOT's pretraining, with its decoder", _PROJ, DBOT, (r"^decoder_predp\.",)),
    Family(
        ("mae",),
        "MAE's pretraining, with its decoder",
        _PROJ,
        MAE,
        (r"^decoder_(pred|embed)",),
    ),
    Family(("timm",), "timm's VisionTransformer, layer scale", _PROJ, TIMM, (r"\.ls1\.gamma$",)),
    Family(
        _BEITS,
        "pretraining with BEiT's model class",
        _PROJ,
        BEIT,
        (r"^(lm_head\.|mask_token$|cls_pt_layers\.)",),
    ),
    Family(
        (*_BEITS, "timm"),
        "a BEiT fine-tuned with the official code, or an older timm's Beit",
        _PROJ,
        TIMM_BEIT,
        (r"\.q_bias$", r"\.relative_position_index$"),
    ),
    Family(
        ("timm", *_BEITS),
        "timm's Beit, or a fine-tuned BEiT",
        _PROJ,
        TIMM_BEIT,
        (r"\.q_bias$",),
    ),
    Family(
        ("timm", "tinymim", "mae", "dbot"),
        "a plain ViT: timm's VisionTransformer, TinyMIM, or MAE or dBOT without the decoder",
        _PROJ,
        PLAIN,
    ),
    Family(("hf",), "Hugging Face's ViT, ViTMAE or Beit", _HF_ANCHOR, HF, (r"^encoder\.layer\.",)),
    Family(("hf",), "Hugging Face's ViT, ViTMAE or Beit, as in memory", _HF_ANCHOR, HF5),
)
# the values of `--from`, beside auto
NAMES = (
    *("dbot", "dbot-beit", "tinymim", "mae", "beit", "beit2"),
    *("timm", "hf", "mmpretrain", "mimseg"),
)
