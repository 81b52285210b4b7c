"""Renames CLIP's image tower: OpenAI's and Hugging Face's names to open_clip's and back."""

from __future__ import annotations

import re

import torch
from torch import Tensor

# what OpenAI's archives hold besides weights
_MARKERS = {"input_resolution", "context_length", "vocab_size"}
_ANCHOR = "class_embedding"  # the tower has one, the text tower has none
_HF_STEM = {
    "vision_model.embeddings.class_embedding": "class_embedding",
    "vision_model.embeddings.patch_embedding.weight": "conv1.weight",
    "vision_model.embeddings.position_embedding.weight": "positional_embedding",
    "vision_model.pre_layrnorm": "ln_pre",  # spelled so there
    "vision_model.post_layernorm": "ln_post",
}
_HF_BLOCK = {
    "self_attn.out_proj": "attn.out_proj",
    "layer_norm1": "ln_1",
    "layer_norm2": "ln_2",
    "mlp.fc1": "mlp.c_fc",
    "mlp.fc2": "mlp.c_proj",
}
_HF_LAYER = re.compile(r"vision_model\.encoder\.layers\.(\d+)\.(.+)\.(weight|bias)")


def is_openai(state: dict[str, Tensor]) -> bool:
    """Whether a state dict is one of OpenAI's own, whose models use QuickGELU."""
    return _MARKERS <= state.keys()


def to_ours(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The image tower in open_clip's names, which are OpenAI's without "visual.".

    Args:
        state: a whole CLIP model (OpenAI's, open_clip's, Hugging Face's), or a tower alone.

    Returns:
        The tower's tensors; those of other modules are left out. Without a tower, an empty dict.
    """
    if "vision_model.embeddings.class_embedding" in state:
        return _from_hugging_face(state)
    anchors = [n for n in state if n == _ANCHOR or n.endswith(f".{_ANCHOR}")]
    if not anchors:
        return {}
    prefix = min(anchors, key=len)[: -len(_ANCHOR)]
    return {name[len(prefix) :]: v for name, v in state.items() if name.startswith(prefix)}


def to_theirs(state: dict[str, Tensor], prefix: str = "visual.") -> dict[str, Tensor]:
    """A tower of open_clip's names as OpenAI's code has it."""
    return {prefix + name: value for name, value in state.items()}


def _from_hugging_face(state: dict[str, Tensor]) -> dict[str, Tensor]:
    tower: dict[str, Tensor] = {}
    for name, value in state.items():
        if match := _HF_LAYER.fullmatch(name):
            index, part, kind = match.groups()
            stem = f"transformer.resblocks.{index}"
            if part in _HF_BLOCK:
                tower[f"{stem}.{_HF_BLOCK[part]}.{kind}"] = value
            elif part == "self_attn.q_proj":
                three = [state[name.replace("q_proj", f"{x}_proj")] for x in "qkv"]
                tower[f"{stem}.attn.in_proj_{kind}"] = torch.cat(three)
        elif name == "visual_projection.weight":
            tower["proj"] = value.T.contiguous()
        else:
            for theirs, ours in _HF_STEM.items():
                if name == theirs or name.startswith(f"{theirs}."):
                    tower[ours + name[len(theirs) :]] = value
    return tower
