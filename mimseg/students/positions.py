"""How the ViT's tokens get their positions."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from mimseg.layers.block import TransformerBlock
from mimseg.layers.position import is_known, resize_position_embedding
from mimseg.layers.relative_position import relative_position_index, resize_relative_table


class PositionMixin:
    """Absolute embeddings and relative biases on any grid.

    The parameters are the ViT's own: `pos_embed`, `cls_token`, `rel_pos_bias` and `base_grid`, the
    grid that the tables were made for.
    """

    def _forget_grids(self) -> None:
        self._resized_pos: tuple | None = None
        self._offsets: dict[tuple, Tensor] = {}  # not state: index of the relative positions

    def _add_position(self, x: Tensor, grid: tuple[int, int]) -> tuple[Tensor, Tensor | None]:
        if self.pos_embed is None:
            return x, None
        pos = self._position(grid)  # float32 under autocast, as the residual sums
        return x + pos[:, int(self.cls_token is not None) :], pos

    def _prepend_cls(self, x: Tensor, pos: Tensor | None) -> Tensor:
        if self.cls_token is None:
            return x
        cls = self.cls_token if pos is None else self.cls_token + pos[:, :1]
        return torch.cat([cls.expand(x.shape[0], -1, -1), x], dim=1)

    def _position(self, grid: tuple[int, int]) -> Tensor:
        if is_known(grid) and grid == self.base_grid:
            return self.pos_embed
        options = dict(with_cls=self.cls_token is not None, shifted=self.shifted_sampling)
        if not is_known(grid) or (self.pos_embed.requires_grad and torch.is_grad_enabled()):
            return resize_position_embedding(self.pos_embed, self.base_grid, grid, **options)
        key = (grid, self.pos_embed.device, self.pos_embed._version)
        if self._resized_pos is None or self._resized_pos[0] != key:
            table = self.pos_embed.detach()
            table = resize_position_embedding(table, self.base_grid, grid, **options)
            self._resized_pos = (key, table)
        return self._resized_pos[1]

    def _shared_bias(self, grid: tuple[int, int]) -> Tensor | None:
        if self.rel_pos_bias is None:
            return None
        return self.relative_bias(self.rel_pos_bias.relative_position_bias_table, grid)

    def block_bias(self, index: int, grid: tuple[int, int]) -> Tensor | None:
        """The relative bias of a block, its own or the shared one; None where it has none."""
        return self._bias_in(self.layers[index], grid, self._shared_bias(grid))

    def _bias_in(
        self,
        block: TransformerBlock,
        grid: tuple[int, int],
        shared: Tensor | None,
        kept: Tensor | None = None,
    ) -> Tensor | None:
        """A block's bias among the tokens that it sees: its own table's, or `shared` as it is."""
        own = block.attn.relative_position_bias_table
        return shared if own is None else self._visible_bias(self.relative_bias(own, grid), kept)

    def relative_bias(self, table: Tensor, grid: tuple[int, int]) -> Tensor:
        """The table's bias on a grid, (heads, [1 +] L, [1 +] L)."""
        offsets = self._relative_offsets(grid, table.device)
        table = resize_relative_table(table, self.base_grid, grid)
        return table[offsets].permute(2, 0, 1)

    def _relative_offsets(self, grid: tuple[int, int], device: torch.device) -> Tensor:
        if not is_known(grid):  # cannot be a key
            return relative_position_index(grid, self.cls_token is not None).to(device)
        key = (grid, device)
        if key not in self._offsets:
            self._offsets.clear()  # one grid: detection pads to a new one in every batch
            index = relative_position_index(grid, self.cls_token is not None)
            self._offsets[key] = index.to(device)
        return self._offsets[key]

    def _visible_bias(self, bias: Tensor, kept: Tensor | None) -> Tensor:
        """The bias among visible tokens, (B * M, heads, K, K), where patches were dropped."""
        if kept is None:
            return bias
        if self.cls_token is not None:
            kept = F.pad(kept + 1, (1, 0))
        return bias[:, kept[:, :, None], kept[:, None, :]].transpose(0, 1)
