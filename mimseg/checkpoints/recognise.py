"""Recognises a checkpoint's family by its keys and gives its backbone our names."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from mimseg.checkpoints.families import FAMILIES, NAMES, OWN_ANCHOR, TIMM_ANCHOR, Family
from mimseg.checkpoints.key_map import join_biases
from mimseg.checkpoints.names import is_teacher, shorten
from mimseg.errors import UserError

# top-level names that belong to a backbone; whatever else is next to it is another module
_BACKBONE_PART = re.compile(
    r"(blocks|layers?|stages|encoder|embeddings|patch_embed|pos_embed|absolute_pos_embed"
    r"|cls_token|\w*_tokens?|rope\w*|rel_pos\w*|shared_position_bias|(pre_)?(norm|ln|layernorm)\w*)"
    r"(\.|$)"
)
_KIND = "(weight|bias)"
_OWN_NAME = re.compile(
    rf"cls_token|mask_token|pos_embed|patch_embed\.projection\.{_KIND}|ln[12]\.{_KIND}"
    r"|rel_pos_bias\.relative_position_bias_table|layers\.\d+\.("
    rf"ln[12]\.{_KIND}|attn\.((qkv|proj)\.{_KIND}|gamma1\.weight|rel_pos_[hw])"
    r"|attn\.relative_position_bias_table"
    rf"|ffn\.(layers\.(0\.0|1)\.{_KIND}|gamma2\.weight))"
)
_BLOCK = re.compile(r"((?:.*\.)?layers\.\d+\.)(.+)")
_MMPRETRAIN = {"gamma_1": "attn.gamma1.weight", "gamma_2": "ffn.gamma2.weight"}


@dataclass(frozen=True)
class Found:
    """A backbone in a checkpoint.

    Args:
        family: what it was recognised as; None where a model's own names found it.
        prefix: what the backbone's names begin with in the file.
        state: its weights in our names, "layers.0.ln1.weight".
        left_out: the file's names of other modules: heads, decoders, necks, teachers.
    """

    family: Family | None
    prefix: str
    state: dict[str, Tensor]
    left_out: tuple[str, ...] = ()

    def __str__(self) -> str:
        text = f"{self.family} (prefix {self.prefix!r}, {len(self.state)} tensors)"
        if self.left_out:
            modules = dict.fromkeys(name.split(".")[0] for name in self.left_out)
            text += f"; left out: {len(self.left_out)} tensors of {shorten(modules)}"
        return text


def recognise(
    weights: dict[str, Tensor], source: str, key: str = "checkpoint", wanted: str = "auto"
) -> Found | None:
    """Find the backbone among a file's weights and recognise its family by the keys.

    Args:
        weights: the file's tensors by name.
        source: the file, for errors.
        key: the config key or flag that errors name.
        wanted: one of `NAMES` that it must be, or "auto".

    Returns:
        The backbone in our names; None where nothing looks like a ViT's patch embedding.

    Raises:
        UserError: weights of the backbone that its family does not have (another kind of
            transformer), or a family other than `wanted`.
    """
    usable = {name: value for name, value in weights.items() if not is_teacher(name)}
    place = _find_anchor(usable)
    if place is None:
        return None
    anchor, prefix = place
    places = {n: n[len(prefix) :] for n in usable if n.startswith(prefix)}
    places |= _norm_beside(usable, prefix)
    inside = {place: usable[name] for name, place in places.items()}
    if anchor == OWN_ANCHOR:
        family = next(f for f in FAMILIES if f.anchor == anchor and f.fits(usable))
        state, rest = own_backbone(inside, prefix)
        unknown = strange_names(state)
    else:
        family = next(f for f in FAMILIES if f.anchor == anchor and f.fits(inside))
        state, rest, unknown = _renamed(inside, family)
    if unknown or not any(name.startswith("layers.") for name in state):
        strange = unknown or strange_names(inside) or inside
        raise not_known(key, source, str(family), [prefix + name for name in strange])
    if wanted != "auto" and wanted not in family.names:
        raise UserError(
            "--from",
            wanted,
            expected=f"what the keys of {source} show: {family}",
            fix=f"leave --from out, or name one of {', '.join(family.names)}",
        )
    if family.anchor == TIMM_ANCHOR:
        state = _with_cls_row(state)
    left_out = tuple(n for n in weights if n not in places or places[n] in rest)
    return Found(family, prefix, state, left_out)


def has_own_names(names: Iterable[str]) -> bool:
    """Whether one of the names is our (and mmpretrain's) patch embedding's."""
    return any(n == OWN_ANCHOR or n.endswith(f".{OWN_ANCHOR}") for n in names if not is_teacher(n))


def strange_names(names: Iterable[str]) -> list[str]:
    """Those of a backbone's names, ours or mmpretrain's, that no mimseg.ViT has."""
    return [name for name in names if not _OWN_NAME.fullmatch(name)]


def from_mmpretrain(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Rename the parts of mmpretrain's and mmsegmentation's BEiT, whatever the prefix."""
    renamed = {}
    for name, value in join_biases(weights).items():
        match = _BLOCK.fullmatch(name)
        if match and match[2] in _MMPRETRAIN:
            name = match[1] + _MMPRETRAIN[match[2]]
        if not name.endswith("relative_position_index"):
            renamed[name] = value
    return renamed


def not_recognised(key: str, source: str, names: Iterable[str]) -> UserError:
    """The error for a file in which no ViT was found."""
    return UserError(
        key,
        source,
        expected=f"a checkpoint with a ViT of a known family ({', '.join(NAMES)}); "
        f"its keys begin with {shorten(names, 3)}",
        fix="name a checkpoint of a plain ViT or BEiT",
    )


def _find_anchor(names: Iterable[str]) -> tuple[str, str] | None:
    """The patch embedding's weight and its prefix; ours goes first, "backbone." too."""
    names = list(names)
    for anchor in dict.fromkeys(family.anchor for family in FAMILIES):
        prefixes = [n[: -len(anchor)] for n in names if n == anchor or n.endswith(f".{anchor}")]
        if prefixes:
            return anchor, max(prefixes, key=_rank)
    return None


def _rank(prefix: str) -> tuple[bool, bool, int]:
    return prefix == "backbone.", "backbone." in prefix, -len(prefix)


def own_backbone(
    inside: dict[str, Tensor], prefix: str
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The backbone, and the other modules where nothing but their names sets them apart."""
    rest = {n: v for n, v in inside.items() if not prefix and not _BACKBONE_PART.match(n)}
    return from_mmpretrain({n: v for n, v in inside.items() if n not in rest}), rest


def _renamed(inside: dict[str, Tensor], family: Family) -> tuple[dict, dict, dict]:
    """The backbone in our names; tensors of other modules; unknown ones of the backbone."""
    renamed, unknown = family.key_map.rename(inside)
    state, rest = {}, {}
    for name, value in renamed.items():
        if name.startswith("backbone."):
            state[name.removeprefix("backbone.")] = value
        else:
            rest[family.key_map.their_name(name)] = value
    rest |= {n: v for n, v in unknown.items() if not _BACKBONE_PART.match(n)}
    return state, rest, {n: v for n, v in unknown.items() if n not in rest}


def _norm_beside(names: Iterable[str], prefix: str) -> dict[str, str]:
    """Hugging Face's BeitForMaskedImageModeling has the final norm next to the backbone."""
    outer = prefix.removesuffix("beit.")
    if outer == prefix or f"{prefix}layernorm.weight" in names:
        return {}
    norm = [f"{outer}layernorm.{kind}" for kind in ("weight", "bias")]
    return {name: name[len(outer) :] for name in norm if name in names}


def _with_cls_row(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Give a position embedding of patches alone (timm's no_embed_class) a row of zeros for CLS."""
    table = state.get("pos_embed")
    if table is None or table.ndim != 3 or "cls_token" not in state:
        return state
    length = table.shape[1]
    if round(length**0.5) ** 2 != length or round((length - 1) ** 0.5) ** 2 == length - 1:
        return state
    return state | {"pos_embed": torch.cat([torch.zeros_like(table[:, :1]), table], dim=1)}


def not_known(key: str, source: str, family: str, names: list[str]) -> UserError:
    """The error for a transformer with weights that no mimseg.ViT has."""
    return UserError(
        key,
        source,
        expected=f"a ViT that mimseg.ViT can be; by its patch embedding it is of {family}; "
        f"but the first unknown keys are {shorten(names, 3)}",
        fix="another architecture (registers, distillation token, gated MLPs, pre-norm, "
        "hierarchical) does not load",
    )
