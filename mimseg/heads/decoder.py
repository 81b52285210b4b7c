"""Decodes visible and mask tokens by self-attention."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mimseg.heads.base import Head, Setting
from mimseg.layers.block import TransformerBlock
from mimseg.layers.position import sincos_position_embedding
from mimseg.outputs import StudentOutput
from mimseg.registry import MODELS


@MODELS.register_module()
class DecoderHead(Head):
    """MAE's decoder (arXiv 2111.06377, section 3; dBOT uses it too).

    Visible tokens are projected, mask tokens fill the holes, fixed sine-cosine positions are added
    and the whole sequence, CLS included, goes through transformer blocks. The last projection is
    computed at the chosen positions alone. Where the student drops nothing there is no mask token.

    A decoder with other blocks overrides `_block` and `forward`.

    Args:
        in_channels: C, the student's width (filled in by the algorithm).
        out_channels: D, the target's width (filled in by the algorithm).
        embed_dims, depth, num_heads, mlp_ratio: shape of the decoder.
        drop_path_rate: drop path rate of the last block; it grows linearly from 0.
        norm_eps: epsilon of the layer norms.
    """

    predicts_dropped = True

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        embed_dims: int = 512,
        depth: int = 8,
        num_heads: int = 16,
        mlp_ratio: float = 4.0,
        drop_path_rate: float = 0.0,
        norm_eps: float = 1e-6,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg)
        self.embed_dims = embed_dims
        self.embed = nn.Linear(in_channels, embed_dims)
        self.mask_token = nn.Parameter(torch.zeros(1, 1, embed_dims))
        self.layers = nn.ModuleList(
            self._block(
                embed_dims,
                num_heads,
                int(mlp_ratio * embed_dims),
                drop_path=drop_path_rate * i / max(depth - 1, 1),
                norm_eps=norm_eps,
            )
            for i in range(depth)
        )
        self.norm = nn.LayerNorm(embed_dims, eps=norm_eps)
        self.projection = nn.Linear(embed_dims, out_channels)
        self._positions: dict[tuple, Tensor] = {}  # not state: a fixed table for each grid

    def _block(self, *args: int, **options: float) -> nn.Module:
        return TransformerBlock(*args, **options)

    def check(self, setting: Setting) -> None:
        """Let the mask token go where no patch is dropped: DDP would wait for its gradient."""
        super().check(setting)
        if not setting.drops_patches:
            self.mask_token = None

    def init_weights(self) -> None:
        """Xavier uniform for linear layers, normal with std 0.02 for the mask token (MAE)."""
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)
            elif isinstance(module, nn.LayerNorm):
                nn.init.ones_(module.weight)
                nn.init.zeros_(module.bias)
        if self.mask_token is not None:
            nn.init.normal_(self.mask_token, std=0.02)
        self._is_init = True

    def forward(self, student: StudentOutput, positions: Tensor) -> Tensor:
        """Predictions (N, D)."""
        x = self.embed(student.tokens)
        if student.kept is not None:
            full = self.mask_token.expand(x.shape[0], student.length, -1)
            visible = student.kept[..., None].expand(-1, -1, x.shape[2])
            x = full.scatter(1, visible, x.to(full.dtype))
        x = x + self._position(student.grid, self.embed.weight)
        first = x.new_zeros(x.shape[0], 1, x.shape[2])
        if student.cls is not None:
            first = self.embed(student.cls)[:, None]
            x = torch.cat([first, x], dim=1)  # the CLS row of the sine-cosine table is zero
        for layer in self.layers:
            x = layer(x)
        if student.cls is None:
            x = torch.cat([first, x], dim=1)
        return self.projection(self.norm(x.flatten(0, 1)[positions]))

    def _position(self, grid: tuple[int, int], like: Tensor) -> Tensor:
        key = (grid, like.device, like.dtype)
        if key not in self._positions:
            table = sincos_position_embedding(grid, self.embed_dims, with_cls=False)
            self._positions[key] = table.to(like)
        return self._positions[key]
