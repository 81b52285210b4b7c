"""Computes query, key, value and scores of timm's attention modules."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from timm.layers import Attention, AttentionRope
from timm.models import beit, eva
from torch import Tensor, nn

from mimseg.errors import UserError
from mimseg.outputs import QKV

_KNOWN = (Attention, AttentionRope, beit.Attention, eva.EvaAttention)


def split_heads(module: nn.Module, x: Tensor, model: str) -> QKV:
    """Query, key and value, each (B, heads, tokens, d), after the norms of query and key.

    Args:
        module: a block's attention.
        x: what it is called with, (B, tokens, C).
        model: what errors call the network.

    Raises:
        UserError: an attention of another kind.
    """
    if not isinstance(module, _KNOWN) or getattr(module, "num_kv_groups", 1) > 1:
        raise UserError(
            "teacher.model",
            model,
            expected="plain multi-head attention, for q, k, v or attention; it has "
            f"{type(module).__name__}",
            fix="take a plain ViT, DeiT, BEiT or EVA",
        )
    if module.qkv is None:
        parts = [projection(x) for projection in (module.q_proj, module.k_proj, module.v_proj)]
    else:
        bias = module.qkv.bias
        if getattr(module, "q_bias", None) is not None:  # BEiT: the key has none
            bias = torch.cat([module.q_bias, module.k_bias, module.v_bias])
        parts = F.linear(x, module.qkv.weight, bias).chunk(3, dim=-1)
    q, k, v = (part.unflatten(-1, (module.num_heads, -1)).transpose(1, 2) for part in parts)
    norms = [getattr(module, name, None) or nn.Identity() for name in ("q_norm", "k_norm")]
    return norms[0](q), norms[1](k), v


def attention_bias(module: nn.Module, call: dict, model: str) -> Tensor | None:
    """What the module adds to its scores, (1, heads, tokens, tokens), or None.

    Args:
        module: a block's attention.
        call: the keywords that it is called with.

    Raises:
        UserError: positions that rotate query and key: scores without them would be wrong.
    """
    if call.get("rope") is not None:
        raise UserError(
            "teacher.model",
            model,
            expected="a ViT without rotary positions, for the CLS token's attention",
        )
    shared = call.get("shared_rel_pos_bias")
    if getattr(module, "relative_position_bias_table", None) is None:
        return shared
    bias = module._get_rel_pos_bias()
    return bias if shared is None else bias + shared
