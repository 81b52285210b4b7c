"""Knows how far a ViT has to run, and which of its parts no output depends on."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from torch import nn

from mimseg.outputs import Needs

if TYPE_CHECKING:
    from mimseg.students.vit import ViT

Part = nn.Module | nn.Parameter


def last_block(vit: ViT, needs: Needs) -> tuple[int, bool]:
    """The last block that these needs run, -1 for none.

    Returns:
        Its index, and whether it is run whole; if not, to its query, key and value.
    """
    if needs.tokens:
        return vit.num_layers - 1, True
    layers = {vit.block_index(layer) for layer in needs.layers}
    last = max([-1, *layers, *map(vit.block_index, needs.qkv)])
    return last, last < 0 or last in layers


def unused_by_maps(vit: ViT, blocks: Iterable[int]) -> dict[str, list[Part]]:
    """Name -> parts without which the maps that `forward` gives of these blocks are the same."""
    blocks = frozenset(blocks)
    unused = _unused_blocks(vit, Needs(layers=blocks, tokens=False))
    if vit.num_layers - 1 not in blocks:
        unused["ln1"] = [vit.ln1]
    return _that_train(unused | {"mask_token": [vit.mask_token]})


def unused_by_encode(vit: ViT, needs: Needs, masked: bool) -> dict[str, list[Part]]:
    """Name -> parts without which `encode` gives the same.

    Args:
        vit: the student.
        needs: what is read of its output.
        masked: whether its images are masked.
    """
    unused = _unused_blocks(vit, needs) | {"ln2": [vit.ln2]}
    if not needs.tokens:
        unused["ln1"] = [vit.ln1]
    if not masked:
        unused["mask_token"] = [vit.mask_token]
    return _that_train(unused)


def _unused_blocks(vit: ViT, needs: Needs) -> dict[str, list[Part | None]]:
    last, whole = last_block(vit, needs)
    unused = {f"block {index}": [vit.layers[index]] for index in range(last + 1, vit.num_layers)}
    if len(unused) > 1:
        names = ", ".join(name.removeprefix("block ") for name in unused)
        unused = {f"blocks {names}": [part for parts in unused.values() for part in parts]}
    if not whole:
        block = vit.layers[last]
        attention = block.attn
        after = [attention.proj, attention.gamma1, block.ln2, block.ffn]
        after += [attention.relative_position_bias_table]
        after += [attention.rel_pos_h, attention.rel_pos_w]
        unused = {f"block {last} after its query, key and value": after} | unused
    if last + whole < 1:  # no attention is computed
        unused["rel_pos_bias"] = [vit.rel_pos_bias]
    return unused


def _that_train(unused: dict[str, list[Part | None]]) -> dict[str, list[Part]]:
    """The parts that are there and have something to train."""
    trained = {
        name: [part for part in parts if part is not None and _trains(part)]
        for name, parts in unused.items()
    }
    return {name: parts for name, parts in trained.items() if parts}


def _trains(part: Part) -> bool:
    if isinstance(part, nn.Parameter):
        return part.requires_grad
    return any(parameter.requires_grad for parameter in part.parameters())
