"""Decodes mask tokens that attend to the visible ones."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mimseg.errors import UserError
from mimseg.heads.base import Setting
from mimseg.heads.decoder import DecoderHead
from mimseg.layers.block import FeedForward
from mimseg.layers.drop_path import DropPath
from mimseg.layers.visible import visible_indices
from mimseg.outputs import StudentOutput
from mimseg.registry import MODELS


class _CrossAttention(nn.Module):
    """Queries of the mask tokens; keys and values of the prompts and the mask tokens."""

    def __init__(self, dims: int, num_heads: int, drop_path: float) -> None:
        super().__init__()
        if dims % num_heads:
            raise UserError(
                "head.num_heads", num_heads, expected=f"a divisor of head.embed_dims = {dims}"
            )
        self.num_heads = num_heads
        self.q = nn.Linear(dims, dims)
        self.kv = nn.Linear(dims, 2 * dims)
        self.proj = nn.Linear(dims, dims)
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor, prompts: Tensor) -> Tensor:
        q = self.q(x).unflatten(2, (self.num_heads, -1)).transpose(1, 2)
        kv = self.kv(torch.cat([prompts.to(x.dtype), x], dim=1))
        k, v = kv.unflatten(2, (2, self.num_heads, -1)).permute(2, 0, 3, 1, 4).unbind(0)
        x = F.scaled_dot_product_attention(q, k, v)
        return self.drop_path(self.proj(x.transpose(1, 2).flatten(2)))


class _CrossAttentionBlock(nn.Module):
    """Pre-norm block; the prompts enter as they are, without the norm."""

    def __init__(
        self, dims: int, num_heads: int, hidden: int, drop_path: float, norm_eps: float
    ) -> None:
        super().__init__()
        self.ln1 = nn.LayerNorm(dims, eps=norm_eps)
        self.attn = _CrossAttention(dims, num_heads, drop_path)
        self.ln2 = nn.LayerNorm(dims, eps=norm_eps)
        self.ffn = FeedForward(dims, hidden, layer_scale=0.0, drop_path=drop_path)

    def forward(self, x: Tensor, prompts: Tensor) -> Tensor:
        x = x + self.attn(self.ln1(x), prompts)
        return x + self.ffn(self.ln2(x))


@MODELS.register_module()
class CrossAttentionDecoderHead(DecoderHead):
    """MILAN's prompting decoder (arXiv 2208.06049, section 3).

    The encoder's tokens, CLS included, are projected once and stay as they are: prompts. The mask
    tokens are the queries and are all that the blocks update; keys and values are prompts and mask
    tokens. Every position is predicted, visible ones from their prompts. Parameters map one to one
    to mmpretrain's MILANPretrainDecoder. Initialization is DecoderHead's.

    Args:
        in_channels, out_channels, embed_dims, depth, num_heads: as in DecoderHead.
        mlp_ratio, drop_path_rate, norm_eps: as in DecoderHead.
    """

    def _block(self, *args: int, **options: float) -> nn.Module:
        return _CrossAttentionBlock(*args, **options)

    def check(self, setting: Setting) -> None:
        """Refuse a student that does not drop patches: there would be no mask token to update."""
        if not setting.drops_patches:
            raise UserError(
                "head.type",
                "mimseg.CrossAttentionDecoderHead",
                expected="a student that drops its masked patches",
                fix="backbone.mask_mode='drop' with a masking, or mimseg.DecoderHead",
            )

    def forward(self, student: StudentOutput, positions: Tensor) -> Tensor:
        """Predictions (N, D)."""
        hidden = visible_indices(student.mask.logical_not(), num_masked=student.kept.shape[1])
        position = self._position(student.grid, self.mask_token)[0]
        visible = self.embed(student.tokens) + position[student.kept]
        x = self.mask_token + position[hidden]
        prompts = visible
        if student.cls is not None:  # its row of the sine-cosine table is zero
            cls = self.embed(student.cls)[:, None].to(visible.dtype)
            prompts = torch.cat([cls, visible], dim=1)
        for layer in self.layers:
            x = layer(x, prompts)
        tokens = torch.cat([visible, x.to(visible.dtype)], dim=1)
        order = torch.cat([student.kept, hidden], dim=1)[..., None].expand_as(tokens)
        patches = torch.empty_like(tokens).scatter(1, order, tokens)
        first = tokens.new_zeros(tokens[:, :1].shape) if student.cls is None else prompts[:, :1]
        sequence = torch.cat([first, patches], dim=1)
        return self.projection(self.norm(sequence.flatten(0, 1)[positions]))
