"""Says in a few words what a slot is, from its built object's type and its settings.

The type is the built object's; a setting is the config's, or the default of the class. Nothing
that a config says about itself in words is read.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from torch import nn

from mimseg.registry import find_default

_SUFFIX = re.compile(r"(Teacher|Normalization|Head|Loss|Masking)$")
_WORD = re.compile(r"[A-Z]+\d+(?=[A-Z]|$)|[A-Z]+(?=[A-Z][a-z])|[A-Z][a-z]+|[A-Z]+|[a-z]+|\d+")

_MASKS = {"BlockMasking": "block-wise", "AttentionMasking": "attention-guided"}


class Settings:
    """A slot's settings: what the config gives, else the defaults of the class.

    Args:
        built: the object.
        given: its config, before anything was made small.
    """

    def __init__(self, built: nn.Module, given: dict) -> None:
        self.built, self.given = built, given

    def __getitem__(self, name: str) -> Any:
        return self.given[name] if name in self.given else find_default(type(self.built), name)


def words(kind: type) -> str:
    """A class name as words, without what all classes of the slot end in: "smooth L1"."""
    found = _WORD.findall(_SUFFIX.sub("", kind.__name__)) or [kind.__name__]
    return " ".join(w.lower() if w[1:].islower() or len(w) == 1 else w for w in found)


def describe(built: nn.Module | None, given: dict | None) -> str:
    """A slot in a few words; "none" for an empty one."""
    if built is None:
        return "none"
    settings = Settings(built, given or {})
    for parent in type(built).__mro__:
        if parent.__name__ in PHRASES:
            return PHRASES[parent.__name__](settings)
    return words(type(built))


def percent(ratio: float) -> str:
    """75 %, 38.3 %."""
    return f"{round(100 * ratio, 1):g} %"


def source(text: Any) -> str:
    """Where a network's weights come from, as a word before its name."""
    return "random " if text == "random" else ""


def _masking(s: Settings) -> str:
    text = f"{_MASKS.get(type(s.built).__name__) or words(type(s.built))} {percent(s['ratio'])}"
    if (s["unit"] or 1) > 1:
        text += f" in squares of {s['unit']}"
    return text + (f", {s['num_masks']} an image" if (s["num_masks"] or 1) > 1 else "")


def _layers(s: Settings) -> str:
    """What is taken from the teacher, where it is not the last block alone."""
    layers = tuple(s["layers"] or ())
    if len(layers) > 1:
        return f", mean of {len(layers)} blocks"
    return f", block {layers[0]}" if layers and layers != (-1,) else ""


def _normalization(s: Settings) -> str:
    return words(type(s.built)) + _layers(s)


def _none(s: Settings) -> str:
    return "none" + ("" if s["ids"] else _layers(s))


def _token_layer_norm(s: Settings) -> str:
    return "token LayerNorm" + (" (unbiased)" if s["unbiased"] else "") + _layers(s)


def _softmax(s: Settings) -> str:
    centred = "" if s["center_momentum"] is None else ", centred"
    return f"softmax at {s['temperature']:g}{centred}{_layers(s)}"


def _relations(s: Settings) -> str:
    block = s.given.get("layer")
    text = f"relations {' '.join(s.built.relations.pairs)}"
    return text if block is None else f"{text}, block {block}"


def _relation_head(s: Settings) -> str:
    block = s["teacher_layer"]
    return "relations" if block is None else f"relations (teacher's block {block})"


def _decoder(s: Settings) -> str:
    return f"self-attention decoder, {s['depth']} blocks".replace(" 1 blocks", " 1 block")


def _cross_decoder(s: Settings) -> str:
    return _decoder(s).replace("self", "cross")


def _aggregation(s: Settings) -> str:
    return f"linear, and again from block {s['in_layer']}'s patches with CLS"


def _smooth_l1(s: Settings) -> str:
    return f"smooth L1 (β {s['beta']:g})"


def _info_nce(s: Settings) -> str:
    return f"InfoNCE at {s['temperature']:g}"


def _vit_teacher(s: Settings) -> str:
    init, depth = s["init"], s["depth"]
    kinds = {"student": "the student's initial weights", "random": "random ViT"}
    text = kinds.get(init, "ViT checkpoint")
    return text + (f", depth {depth}" if depth is not None else "")


def _timm(s: Settings) -> str:
    text = f"{source(s['weights'])}{s['model']}"
    return text + (f", stage {s['stage']}" if s["stage"] else "")


def _open_clip(s: Settings) -> str:
    name = f" {s['model']}" if isinstance(s["model"], str) else " tower"
    last = {"tokens": "", "post": ", normed", "proj": ", projected"}[s["output"]]
    return f"{source(s['weights'])}CLIP{name}{last}"


def _tokenizer(s: Settings) -> str:
    name = s["tokenizer"]["type"].removeprefix("mmpretrain.")
    return f"{source(s['weights'])}{name} tokenizer"


PHRASES: dict[str, Callable[[Settings], str]] = {
    "RatioMasking": _masking,
    "Normalization": _normalization,
    "NoNormalization": _none,
    "TokenLayerNorm": _token_layer_norm,
    "SoftmaxNormalization": _softmax,
    "PHISNormalization": lambda s: "PHI-S" + _layers(s),
    "L2Normalization": lambda s: "unit length" + _layers(s),
    "Relations": _relations,
    "RelationHead": _relation_head,
    "DecoderHead": _decoder,
    "CrossAttentionDecoderHead": _cross_decoder,
    "PatchAggregationHead": _aggregation,
    "SmoothL1Loss": _smooth_l1,
    "InfoNCELoss": _info_nce,
    "CrossEntropyLoss": lambda s: "cross-entropy",
    "PixelTeacher": lambda s: "pixels",
    "EMATeacher": lambda s: "moving average of the student",
    "ViTTeacher": _vit_teacher,
    "TimmTeacher": _timm,
    "OpenCLIPTeacher": _open_clip,
    "TokenizerTeacher": _tokenizer,
}
