"""How tokens go through the ViT's blocks."""

from __future__ import annotations

from torch import Tensor
from torch.utils.checkpoint import checkpoint

from mimseg.algorithms.outputs import Needs
from mimseg.errors import UserError
from mimseg.students.positions import PositionMixin


class BlocksMixin(PositionMixin):
    """Runs `layers` as far as somebody needs, and taps them on the way."""

    def _asked(self, layers: frozenset[int]) -> dict[int, list[int]]:
        """Block index -> the names it was asked by, such as 11 and -1."""
        asked: dict[int, list[int]] = {}
        for layer in layers:
            asked.setdefault(self.block_index(layer), []).append(layer)
        return asked

    def block_index(self, layer: int) -> int:
        """A block's index from 0; -1 in a network without blocks."""
        index = layer + self.num_layers if layer < 0 else layer
        if not -1 <= index < self.num_layers:
            raise UserError("layer", layer, f"a block index of a ViT with {self.num_layers} blocks")
        return index

    def _run_blocks(
        self,
        x: Tensor,
        grid: tuple[int, int],
        needs: Needs,
        shared: Tensor | None,
        kept: Tensor | None = None,
    ) -> tuple[Tensor, dict, dict]:
        """Run the blocks as far as needed: to the end for tokens, else to the last tap."""
        layers, tapped = self._asked(needs.layers), self._asked(needs.qkv)
        taps, qkv = dict.fromkeys(layers.get(-1, ()), x), {}
        last = self.num_layers - 1
        if not needs.tokens:
            last = max([-1, *layers, *tapped])
        picked = None if shared is None else self._visible_bias(shared, kept)
        for index, block in enumerate(self.layers[: last + 1]):
            if index == last and index in tapped and not needs.tokens and index not in layers:
                qkv |= dict.fromkeys(tapped[index], block.query_key_value(x))
                break
            own = block.attn.relative_position_bias_table
            bias = (
                picked if own is None else self._visible_bias(self.relative_bias(own, grid), kept)
            )
            if index in tapped:
                x, found = block.forward_tapped(x, bias, grid)
                qkv |= dict.fromkeys(tapped[index], found)
            elif self.activation_checkpointing and self.training:
                x = checkpoint(block, x, bias, grid, use_reentrant=False)
            else:
                x = block(x, bias, grid)
            taps |= dict.fromkeys(layers.get(index, ()), x)
        return x, taps, qkv
