"""The transformer block of the student and of the decoders."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mimseg.errors import UserError
from mimseg.layers.drop_path import DropPath


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
    ) -> None:
        super().__init__()
        if dims % num_heads:
            raise UserError("num_heads", num_heads, f"a divisor of the width {dims}")
        self.num_heads = num_heads
        self.qkv = nn.Linear(dims, dims * 3, bias=qkv_bias)
        self.proj = nn.Linear(dims, dims)
        self.gamma1 = _layer_scale(dims, layer_scale)
        self.drop_path = DropPath(drop_path)
        self.relative_position_bias_table = (
            nn.Parameter(torch.zeros(table_rows, num_heads)) if table_rows else None
        )

    def split_heads(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(B, L, C) -> query, key, value, each (B, heads, L, C / heads)."""
        b, length, c = x.shape
        qkv = self.qkv(x).reshape(b, length, 3, self.num_heads, c // self.num_heads)
        return qkv.permute(2, 0, 3, 1, 4).unbind(0)

    def attend(self, q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None) -> Tensor:
        """The residual branch (B, L, C) from query, key, value and an additive bias."""
        bias = None if bias is None else bias.to(q.dtype)
        x = F.scaled_dot_product_attention(q, k, v, attn_mask=bias)
        x = self.proj(x.transpose(1, 2).flatten(2))
        return self.drop_path(self.gamma1(x))


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
    ) -> None:
        super().__init__()
        self.ln1 = nn.LayerNorm(dims, eps=norm_eps)
        self.attn = Attention(dims, num_heads, qkv_bias, layer_scale, drop_path, table_rows)
        self.ln2 = nn.LayerNorm(dims, eps=norm_eps)
        self.ffn = FeedForward(dims, hidden, layer_scale, drop_path)

    def forward(self, x: Tensor, bias: Tensor | None = None) -> Tensor:
        """(B, L, C) -> (B, L, C); bias is added to the attention scores."""
        return self.forward_tapped(x, bias)[0]

    def forward_tapped(
        self, x: Tensor, bias: Tensor | None = None
    ) -> tuple[Tensor, tuple[Tensor, Tensor, Tensor]]:
        """Like `forward`, with this block's query, key and value beside the output."""
        q, k, v = self.query_key_value(x)
        x = x + self.attn.attend(q, k, v, bias)
        return x + self.ffn(self.ln2(x)), (q, k, v)

    def query_key_value(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Query, key and value of the block's input (B, L, C), each (B, heads, L, C / heads)."""
        return self.attn.split_heads(self.ln1(x))
