"""How tokens go through the ViT's blocks."""

from __future__ import annotations

import logging

from mmengine.logging import print_log
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from mimseg.errors import UserError
from mimseg.layers.block import TransformerBlock
from mimseg.layers.position import is_known
from mimseg.outputs import Needs
from mimseg.students.positions import PositionMixin


class BlocksMixin(PositionMixin):
    """Runs `layers` as far as somebody needs, and taps them on the way."""

    _padding_reported = False

    def _asked(self, layers: frozenset[int]) -> dict[int, list[int]]:
        """Block index -> the names it was asked by, such as 11 and -1."""
        asked: dict[int, list[int]] = {}
        for layer in layers:
            asked.setdefault(self.block_index(layer), []).append(layer)
        return asked

    def block_index(self, layer: int) -> int:
        """A block's index from 0; -1, the patch embedding, in a network without blocks."""
        if not self.num_layers and layer == -1:
            return layer
        index = layer + self.num_layers if layer < 0 else layer
        if not 0 <= index < self.num_layers:
            raise UserError(
                "layer", layer, expected=f"a block index of a ViT with {self.num_layers} blocks"
            )
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
        self._tell_padding(grid)
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
            if index in tapped:
                x, found = block.forward_tapped(x, self._bias_in(block, grid, picked, kept), grid)
                qkv |= dict.fromkeys(tapped[index], found)
            elif self.activation_checkpointing and self.training:
                x = checkpoint(self._run_block, block, x, grid, picked, kept, use_reentrant=False)
            else:
                x = self._run_block(block, x, grid, picked, kept)
            taps |= dict.fromkeys(layers.get(index, ()), x)
        return x, taps, qkv

    def _tell_padding(self, grid: tuple[int, int]) -> None:
        """Warn, once, of images that are smaller than a window."""
        window = max((block.window for block in self.layers), default=0)
        if self._padding_reported or not is_known(grid) or min(grid) >= window:
            return
        self._padding_reported = True
        print_log(
            f"backbone.window_size = {window}: an image of {grid[0]}x{grid[1]} patches is smaller "
            "than a window and is filled up with zeros to one; use larger images, or "
            f"window_size={min(grid)}",
            "current",
            logging.WARNING,
        )

    def _run_block(
        self,
        block: TransformerBlock,
        x: Tensor,
        grid: tuple[int, int],
        shared: Tensor | None,
        kept: Tensor | None,
    ) -> Tensor:
        """A block with its bias: recomputed together, a bias of every pair is not kept."""
        return block(x, self._bias_in(block, grid, shared, kept), grid)
