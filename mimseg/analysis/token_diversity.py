"""Token diversity: how unlike each other the tokens of one image are.

Img2Vec (arXiv 2304.12535) ranks teachers by a measure of that name, and its abstract gives no
formula. The definition here is ours: 1 minus the mean cosine similarity of two different patch
tokens of an image. It is 0 where all tokens point one way, about 1 where they are unrelated.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

EPS = 1e-6  # of the layer norm, as in mimseg.TokenLayerNorm


def token_diversity(tokens: Tensor, layer_norm: bool = False) -> Tensor:
    """1 - the mean off-diagonal cosine similarity, for each image.

    Args:
        tokens: (B, L, D) patch tokens, without the CLS token.
        layer_norm: normalise each token over its channels first, as targets often are. Without it,
            one channel that is large in every token makes all tokens alike.

    Returns:
        (B,) float32, between 0 and 1 + 1 / (L - 1).

    Raises:
        ValueError: not three axes, or fewer than two tokens.
    """
    unit = _unit(tokens, layer_norm)
    length = unit.shape[1]
    # The sum over all pairs is that over all tokens, squared: no (L, L) matrix is needed.
    pairs = unit.sum(1).square().sum(1) - unit.square().sum((1, 2))
    return 1 - pairs / (length * (length - 1))


def token_similarity(tokens: Tensor, queries: Sequence[int], layer_norm: bool = False) -> Tensor:
    """Cosine similarity of some tokens of an image to all of them.

    Args:
        tokens: (B, L, D) patch tokens.
        queries: Q indices below L.
        layer_norm: see `token_diversity`.

    Returns:
        (B, Q, L) float32; 1 at the query itself.
    """
    unit = _unit(tokens, layer_norm)
    with torch.autocast(unit.device.type, enabled=False):
        return unit[:, list(queries)] @ unit.transpose(1, 2)


def _unit(tokens: Tensor, layer_norm: bool) -> Tensor:
    if tokens.ndim != 3 or tokens.shape[1] < 2:
        raise ValueError(f"tokens of shape {tuple(tokens.shape)}: expected (B, L, D), L at least 2")
    tokens = tokens.detach().float()
    if layer_norm:
        tokens = F.layer_norm(tokens, tokens.shape[2:], eps=EPS)
    return F.normalize(tokens, dim=2)
