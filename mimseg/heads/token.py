"""Reads the student's token at each position."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mimseg.heads.base import Head
from mimseg.outputs import StudentOutput


class TokenHead(Head):
    """Base of the heads that map each position's token on its own.

    Where the student dropped masked patches, visible positions have their tokens and `check`
    refuses the others; should one be read all the same (for a picture), it is zeros.
    """

    def init_weights(self) -> None:
        """Truncated normal, std 0.02, for linear layers, zero for biases (BEiT's scheme)."""
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
            elif isinstance(module, nn.LayerNorm):
                nn.init.ones_(module.weight)
                nn.init.zeros_(module.bias)
        self._is_init = True

    def read(self, student: StudentOutput, positions: Tensor) -> Tensor:
        """The student's final tokens (N, C) at the positions; zeros for a CLS token it lacks."""
        tokens = student.tokens
        if student.kept is not None:
            full = tokens.new_zeros(tokens.shape[0], student.length, tokens.shape[2])
            tokens = full.scatter(1, student.kept[..., None].expand_as(tokens), tokens)
        cls = tokens.new_zeros(tokens[:, 0].shape) if student.cls is None else student.cls
        return torch.cat([cls[:, None], tokens], dim=1).flatten(0, 1)[positions]
