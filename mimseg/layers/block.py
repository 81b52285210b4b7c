"""Defines the transformer block of the student and of the decoders."""

from __future__ import annotations

from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mimseg.errors import UserError
from mimseg.layers.decomposed_position import decomposed_attention
from mimseg.layers.drop_path import DropPath
from mimseg.layers.window import from_windows, to_windows


class LayerScale(nn.Module):
    """A learned factor per channel on a residual branch (arXiv 2103.17239)."""

    def __init__(self, dims: int, value: float) -> None:
        super().__init__()
        self.value = value
        self.weight = nn.Parameter(torch.full((dims,), float(value)))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.weight


def _layer_scale(dims: int, value: float) -> nn.Module:
    return LayerScale(dims, value) if value > 0 else nn.Identity()


class Attention(nn.Module):
    """Multi-head self-attention on scaled_dot_product_attention.

    Args:
        dims: width C.
        num_heads: number of heads; must divide C.
        qkv_bias: whether query, key and value have a bias.
        layer_scale: initial layer scale; 0 for none.
        drop_path: drop path rate of the branch.
        table_rows: rows of a relative position table of this block's own; 0 for none.
        axes: (h, w) that decomposed relative positions are made for; None for none.

    Raises:
        UserError: the head count does not divide the width.
    """

    def __init__(
        self,
        dims: int,
        num_heads: int,
        qkv_bias: bool,
        layer_scale: float,
        drop_path: float,
        table_rows: int = 0,
        axes: tuple[int, int] | None = None,
    ) -> None:
        super().__init__()
        if dims % num_heads:
            raise UserError(
                "num_heads",
                num_heads,
                expected=f"a divisor of the width {dims}",
                fix="another head count (arch.num_heads, last_block_heads or head.num_heads), or "
                "width",
            )
        self.num_heads = num_heads
        self.qkv = nn.Linear(dims, dims * 3, bias=qkv_bias)
        self.proj = nn.Linear(dims, dims)
        self.gamma1 = _layer_scale(dims, layer_scale)
        self.drop_path = DropPath(drop_path)
        self.relative_position_bias_table = (
            nn.Parameter(torch.zeros(table_rows, num_heads)) if table_rows else None
        )
        self.rel_pos_h, self.rel_pos_w = (
            nn.Parameter(torch.zeros(2 * side - 1, dims // num_heads)) if side else None
            for side in axes or (0, 0)
        )

    def split_heads(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(B, L, C) -> query, key, value, each (B, heads, L, C / heads)."""
        b, length, c = x.shape
        qkv = self.qkv(x).reshape(b, length, 3, self.num_heads, c // self.num_heads)
        return qkv.permute(2, 0, 3, 1, 4).unbind(0)

    def attend(
        self, q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, grid: tuple[int, int] | None
    ) -> Tensor:
        """The branch (B, L, C) before layer scale and drop path.

        Args:
            q, k, v: (B, heads, L, C / heads).
            bias: added to the scores.
            grid: (h, w) of the tokens, for decomposed relative positions.
        """
        if self.rel_pos_h is not None:
            x = decomposed_attention(q, k, v, self.rel_pos_h, self.rel_pos_w, grid)
        else:
            bias = None if bias is None else bias.to(q.dtype)
            x = F.scaled_dot_product_attention(q, k, v, attn_mask=bias)
        return self.proj(x.transpose(1, 2).flatten(2))


class FeedForward(nn.Module):
    """Linear, GELU, linear. The odd nesting keeps mmpretrain's parameter names."""

    def __init__(self, dims: int, hidden: int, layer_scale: float, drop_path: float) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Sequential(nn.Linear(dims, hidden), nn.GELU()), nn.Linear(hidden, dims)
        )
        self.gamma2 = _layer_scale(dims, layer_scale)
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor) -> Tensor:
        """The residual branch, (B, L, C) -> (B, L, C)."""
        return self.drop_path(self.gamma2(self.layers(x)))


class TransformerBlock(nn.Module):
    """Pre-norm transformer block (arXiv 2010.11929, section 3.1).

    Args:
        dims: width C.
        num_heads: attention heads.
        hidden: width of the feed-forward layer.
        qkv_bias: whether query, key and value have a bias.
        layer_scale: initial layer scale; 0 for none.
        drop_path: drop path rate.
        norm_eps: epsilon of the layer norms.
        table_rows: rows of a relative position table of this block's own; 0 for none.
        window: side of the windows that attention stays in; 0 for the whole map.
        axes: (h, w) that decomposed relative positions are made for; None for none.
    """

    def __init__(
        self,
        dims: int,
        num_heads: int,
        hidden: int,
        qkv_bias: bool = True,
        layer_scale: float = 0.0,
        drop_path: float = 0.0,
        norm_eps: float = 1e-6,
        table_rows: int = 0,
        window: int = 0,
        axes: tuple[int, int] | None = None,
    ) -> None:
        super().__init__()
        self.window = window
        self.ln1 = nn.LayerNorm(dims, eps=norm_eps)
        self.attn = Attention(dims, num_heads, qkv_bias, layer_scale, drop_path, table_rows, axes)
        self.ln2 = nn.LayerNorm(dims, eps=norm_eps)
        self.ffn = FeedForward(dims, hidden, layer_scale, drop_path)

    def forward(
        self, x: Tensor, bias: Tensor | None = None, grid: tuple[int, int] | None = None
    ) -> Tensor:
        """(B, L, C) -> (B, L, C).

        Args:
            bias: added to the attention scores.
            grid: (h, w) of the tokens, for windows and decomposed relative positions. Windows that
                reach over the border are padded with zeros after the norm, as in ViTDet; the
                padding takes part as keys and values of the projections' biases.
        """
        return self._run(x, bias, grid)[0]

    def forward_tapped(
        self, x: Tensor, bias: Tensor | None = None, grid: tuple[int, int] | None = None
    ) -> tuple[Tensor, tuple[Tensor, Tensor, Tensor]]:
        """Like `forward`, with this block's query, key and value after the output."""
        return self._run(x, bias, grid)

    def _run(
        self, x: Tensor, bias: Tensor | None, grid: tuple[int, int] | None
    ) -> tuple[Tensor, tuple[Tensor, Tensor, Tensor]]:
        normed = self.ln1(x)
        inside = (self.window, self.window) if self.window else grid
        if self.window:
            normed = to_windows(normed, grid, self.window)
        qkv = self.attn.split_heads(normed)
        branch = self.attn.attend(*qkv, bias, inside)
        if self.window:
            branch = from_windows(branch, grid, self.window)
        x = x + self.attn.drop_path(self.attn.gamma1(branch))
        return x + self.ffn(self.ln2(x)), qkv

    def query_key_value(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Query, key and value of the block's input (B, L, C), each (B, heads, L, C / heads)."""
        return self.attn.split_heads(self.ln1(x))


@torch.no_grad()
def shrink_residual_branches(blocks: Iterable[TransformerBlock], first: int = 1) -> None:
    """Divide the last weights of block n's branches by sqrt(2 n), n from `first` (BEiT)."""
    for number, block in enumerate(blocks, first):
        block.attn.proj.weight.div_((2 * number) ** 0.5)
        block.ffn.layers[1].weight.div_((2 * number) ** 0.5)
