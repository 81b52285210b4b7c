"""A model class of another library, as a place for a backbone's weights."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from mimseg.checkpoints.key_map import KeyMap
from mimseg.checkpoints.shape import Shape, shape_of

PREFIX = "backbone."


@dataclass(frozen=True)
class Target:
    """A model class.

    Args:
        library: the value of `--to`.
        name: the class, or that of its options.
        key_map: its names, those of files where they differ from the ones in memory.
        options: a shape -> what to build the class with.
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
        """A key of ours that does not fit this class, and what the class wants; None if all do."""
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
        """The class and what to build it with, as code; what weights do not tell is left open."""
        options = self.options(shape_of(state)).items()
        shown = ", ".join(f"{name}={value!r}" for name, value in options)
        return f"{self.name}({shown.replace('None', '?')})"

    def write(self, state: dict[str, Tensor]) -> tuple[dict[str, Tensor], list[str]]:
        """The weights by this class's names, and what there is to say of them."""
        kept = {PREFIX + name: v for name, v in state.items() if name not in self.drops}
        notes = [f"left out: {name}, which only pretraining uses" for name in self.drops]
        notes = [note for note, name in zip(notes, self.drops, strict=True) if name in state]
        if self.key_map.split_bias and any(_has_key_bias(n, v) for n, v in state.items()):
            notes.append("left out: the keys' biases, which no softmax can see")
        options = self.options(shape_of(state)).keys()
        if "ln1.weight" not in state and not options & {"final_norm", "use_mean_pooling"}:
            notes.append("no final norm in IN: take the blocks' outputs, or make it an identity")
        return self.key_map.to_theirs(kept), notes


def _has_key_bias(name: str, value: Tensor) -> bool:
    return name.endswith("attn.qkv.bias") and bool(value.chunk(3)[1].any())
