"""Renames the parameters of other codes to ours and back."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from mimseg.errors import UserError

# a timm-style block -> ours, which are mmpretrain's names
BLOCK = {
    "norm1": "ln1",
    "norm2": "ln2",
    "attn.qkv": "attn.qkv",
    "attn.proj": "attn.proj",
    "mlp.fc1": "ffn.layers.0.0",
    "mlp.fc2": "ffn.layers.1",
    "gamma_1": "attn.gamma1.weight",
    "gamma_2": "ffn.gamma2.weight",
    "attn.relative_position_bias_table": "attn.relative_position_bias_table",
}
STEM = {
    "cls_token": "backbone.cls_token",
    "pos_embed": "backbone.pos_embed",
    "patch_embed.proj": "backbone.patch_embed.projection",
    "norm": "backbone.ln1",
    "rel_pos_bias": "backbone.rel_pos_bias",
}


@dataclass(frozen=True)
class KeyMap:
    """Names of one family of checkpoints, whole models included: decoder, head, mask token.

    Ours are the names of a `mimseg.MaskedImageModeling` with one objective: `backbone.` for the
    student, `objectives.loss.head.` for the head.

    Args:
        family: what errors call it.
        modules: their prefix -> ours, besides the blocks and `stem`.
        blocks: their name of a list of blocks -> ours.
        fixed: endings of tensors that hold no weights, such as sine-cosine tables and indices.
        split_bias: whether query and value biases are separate and the key has none (BEiT).
        stem: their prefix -> ours of what a family of this style always has outside its blocks.
        block: their prefix -> ours within a block.
        separate: their names in a block of query, key and value, where these are three layers;
            joined they are called `qkv`, which `block` maps.
    """

    family: str
    modules: dict[str, str] = field(default_factory=dict)
    blocks: dict[str, str] = field(default_factory=lambda: {"blocks": "backbone.layers"})
    fixed: tuple[str, ...] = ()
    split_bias: bool = False
    stem: dict[str, str] = field(default_factory=lambda: STEM)
    block: dict[str, str] = field(default_factory=lambda: BLOCK)
    separate: tuple[str, str, str] | tuple[()] = ()

    def to_ours(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """A state dict in our names.

        Raises:
            UserError: names that this family does not have.
        """
        renamed, unknown = self.rename(state)
        if unknown:
            raise UserError(
                "checkpoint",
                ", ".join(list(unknown)[:3]),
                expected=f"names of the {self.family} family ({len(unknown)} are not)",
            )
        return renamed

    def rename(self, state: dict[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """The tensors with a name of this family, in our names; and the rest, in theirs."""
        state = {k: v for k, v in state.items() if not k.endswith(self.fixed or "\0")}
        if self.separate:
            state = _join_layers(state, self.separate)
        elif self.split_bias:
            state = join_biases(state)
        renamed, unknown = {}, {}
        for name, value in state.items():
            ours = self._ours(name)
            if ours is None:
                unknown[name] = value
            else:
                renamed[ours] = value
        return renamed, unknown

    def to_theirs(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """Back from our names, or from anything with our names and shapes, such as gradients."""
        state = {self.their_name(name): value for name, value in state.items()}
        state = {name: value for name, value in state.items() if name is not None}
        if self.separate:
            return _split_layers(state, self.separate, key_bias=not self.split_bias)
        return _split_biases(state) if self.split_bias else state

    def _ours(self, name: str) -> str | None:
        for theirs, ours in self.blocks.items():
            if name.startswith(f"{theirs}."):
                index, _, rest = name[len(theirs) + 1 :].partition(".")
                rest = _swap(rest, self.block)
                return None if rest is None else f"{ours}.{index}.{rest}"
        return _swap(name, self.stem | self.modules)

    def their_name(self, name: str) -> str | None:
        """Their name of one of ours (where query, key and value are three, `qkv`), or None."""
        for theirs, ours in self.blocks.items():
            if name.startswith(f"{ours}."):
                index, _, rest = name[len(ours) + 1 :].partition(".")
                rest = _swap(rest, {o: t for t, o in self.block.items()})
                return None if rest is None else f"{theirs}.{index}.{rest}"
        return _swap(name, {o: t for t, o in (self.stem | self.modules).items()})


def _swap(name: str, table: dict[str, str]) -> str | None:
    """Replace the prefix of `name` that the table has, at a dot; None if it has none."""
    for old, new in table.items():
        if name == old or name.startswith(f"{old}."):
            return new + name[len(old) :]
    return None


def join_biases(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Put BEiT's query and value biases into one of `qkv`; the key's is zero."""
    joined = {}
    for name, value in state.items():
        stem = name[: -len("q_bias")]
        if name.endswith(".q_bias") and f"{stem}v_bias" in state:
            parts = [value, torch.zeros_like(value), state[f"{stem}v_bias"]]
            joined[f"{stem}qkv.bias"] = torch.cat(parts)
        elif not name.endswith(".v_bias") or f"{stem}q_bias" not in state:
            joined[name] = value
    return joined


def _split_biases(state: dict[str, Tensor]) -> dict[str, Tensor]:
    split = {}
    for name, value in state.items():
        if name.endswith(".qkv.bias"):
            stem = name[: -len("qkv.bias")]
            split[f"{stem}q_bias"], _, split[f"{stem}v_bias"] = (
                part.clone() for part in value.chunk(3)
            )
        else:
            split[name] = value
    return split


def _join_layers(state: dict[str, Tensor], names: tuple[str, str, str]) -> dict[str, Tensor]:
    """Join query, key and value; a bias that only some of them have is zero in the others."""
    joined = dict(state)
    for name in state:
        stem, layer, kind = name.rpartition(f".{names[0]}.")
        if not layer or kind not in ("weight", "bias"):
            continue
        three = [joined.pop(f"{stem}.{part}.{kind}", None) for part in names]
        if kind == "weight" and any(part is None for part in three):
            continue  # half a layer; the loader reports what is missing
        joined[f"{stem}.qkv.{kind}"] = torch.cat(
            [torch.zeros_like(three[0]) if part is None else part for part in three]
        )
    return joined


def _split_layers(
    state: dict[str, Tensor], names: tuple[str, str, str], key_bias: bool
) -> dict[str, Tensor]:
    split = {}
    for name, value in state.items():
        stem, layer, kind = name.rpartition(".qkv.")
        if not layer:
            split[name] = value
            continue
        for part, piece in zip(names, value.chunk(3), strict=True):
            if kind == "weight" or key_bias or part != names[1]:
                split[f"{stem}.{part}.{kind}"] = piece.clone()
    return split
