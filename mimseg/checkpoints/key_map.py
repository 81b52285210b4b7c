"""Parameter names of other codes, to ours and back."""

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
        modules: their prefix -> ours, beside the blocks.
        blocks: their name of a list of blocks -> ours.
        fixed: endings of tensors that hold no weights, such as sine-cosine tables and indices.
        split_bias: whether query and value biases stand apart and the key has none (BEiT).
    """

    family: str
    modules: dict[str, str] = field(default_factory=dict)
    blocks: dict[str, str] = field(default_factory=lambda: {"blocks": "backbone.layers"})
    fixed: tuple[str, ...] = ()
    split_bias: bool = False

    def to_ours(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """A state dict in our names.

        Raises:
            UserError: names that this family does not have.
        """
        state = {k: v for k, v in state.items() if not k.endswith(self.fixed or "\0")}
        if self.split_bias:
            state = _join_biases(state)
        names = {name: self._ours(name) for name in state}
        if unknown := [name for name, ours in names.items() if ours is None]:
            raise UserError(
                "checkpoint",
                ", ".join(unknown[:3]),
                f"names of the {self.family} family ({len(unknown)} are not)",
            )
        return {names[name]: value for name, value in state.items()}

    def to_theirs(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """Back from our names, or from anything with our names and shapes, such as gradients."""
        state = {self._theirs(name): value for name, value in state.items()}
        state = {name: value for name, value in state.items() if name is not None}
        return _split_biases(state) if self.split_bias else state

    def _ours(self, name: str) -> str | None:
        for theirs, ours in self.blocks.items():
            if name.startswith(f"{theirs}."):
                index, rest = name[len(theirs) + 1 :].split(".", 1)
                rest = _swap(rest, BLOCK)
                return None if rest is None else f"{ours}.{index}.{rest}"
        return _swap(name, STEM | self.modules)

    def _theirs(self, name: str) -> str | None:
        for theirs, ours in self.blocks.items():
            if name.startswith(f"{ours}."):
                index, rest = name[len(ours) + 1 :].split(".", 1)
                rest = _swap(rest, {o: t for t, o in BLOCK.items()})
                return None if rest is None else f"{theirs}.{index}.{rest}"
        return _swap(name, {o: t for t, o in (STEM | self.modules).items()})


def _swap(name: str, table: dict[str, str]) -> str | None:
    """Replace the prefix of `name` that the table has, at a dot; None if it has none."""
    for old, new in table.items():
        if name == old or name.startswith(f"{old}."):
            return new + name[len(old) :]
    return None


def _join_biases(state: dict[str, Tensor]) -> dict[str, Tensor]:
    joined = {}
    for name, value in state.items():
        if name.endswith(".q_bias"):
            stem = name[: -len("q_bias")]
            parts = [value, torch.zeros_like(value), state[f"{stem}v_bias"]]
            joined[f"{stem}qkv.bias"] = torch.cat(parts)
        elif not name.endswith(".v_bias"):
            joined[name] = value
    return joined


def _split_biases(state: dict[str, Tensor]) -> dict[str, Tensor]:
    split = {}
    for name, value in state.items():
        if name.endswith(".qkv.bias"):
            stem = name[: -len("qkv.bias")]
            split[f"{stem}q_bias"], _, split[f"{stem}v_bias"] = value.chunk(3)
        else:
            split[name] = value
    return split
