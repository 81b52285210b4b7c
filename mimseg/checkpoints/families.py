"""The families of checkpoints whose names we know."""

from __future__ import annotations

from mimseg.checkpoints.key_map import KeyMap

_HEAD = "objectives.loss.head"
_DECODER = {
    "mask_token": f"{_HEAD}.mask_token",
    "decoder_embed": f"{_HEAD}.embed",
    "decoder_norm": f"{_HEAD}.norm",
}
_STACKS = {"blocks": "backbone.layers", "decoder_blocks": f"{_HEAD}.layers"}

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
    modules={"mask_token": "backbone.mask_token", "lm_head": f"{_HEAD}.projection"},
    fixed=("relative_position_index",),
    split_bias=True,
)
TINYMIM = KeyMap("TinyMIM")
