"""Measures token diversity: how much the tokens of one image differ from one another.

Img2Vec (arXiv 2304.12535) ranks teachers by a measure of that name, and its abstract gives no
formula. The definition here is ours: 1 minus the mean cosine similarity of two different patch
tokens of an image. It is 0 where all tokens point one way, about 1 where they are unrelated.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from mimseg.errors import UserError
from mimseg.outputs import Needs
from mimseg.teachers.base import Teacher

# Places of the query patches, as shares of height and width.
QUERIES = ((0.53, 0.53), (0.25, 0.25), (0.75, 0.68))  # amid a patch of a 14x14 grid
EPS = 1e-6  # of the layer norm, as in mimseg.TokenLayerNorm


def token_diversity(tokens: Tensor, layer_norm: bool = False) -> Tensor:
    """1 - the mean off-diagonal cosine similarity, for each image.

    Args:
        tokens: (B, L, D) patch tokens, without the CLS token.
        layer_norm: normalize each token over its channels first, as targets often are. Without it,
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


@dataclass
class Measurement:
    """The diversity of one teacher's tokens.

    Args:
        raw, layer_norm: (N,) diversity of each image.
        width: D.
        grid: (h, w).
        shown: indices of the images with maps.
        maps: (images, queries, h, w) cosine similarity, raw.
        own: (images,) raw diversity of these images.
    """

    raw: Tensor
    layer_norm: Tensor
    width: int
    grid: tuple[int, int]
    shown: list[int]
    maps: Tensor
    own: Tensor


def query_indices(grid: tuple[int, int]) -> list[int]:
    """The patches at the query places."""
    return [int(y * grid[0]) * grid[1] + int(x * grid[1]) for y, x in QUERIES]


@torch.no_grad()
def measure(
    name: str,
    teacher: Teacher,
    layer: int,
    batches: Iterable[tuple[Sequence[int], Tensor | None]],
    shown: Sequence[int],
    device: torch.device,
    report: Callable[[int], None] = lambda count: None,
) -> Measurement:
    """Run a teacher over batches of images.

    Args:
        name: the teacher's name, for errors.
        layer: whose tokens are measured.
        batches: indices, and images (B, 3, H, W) in [0, 1], or None where none opened.
        shown: indices of the images to make similarity maps of.
        report: called after each batch with the number of images done so far.

    Raises:
        UserError: no image opens, the teacher gives no tokens, or they are not finite.
    """
    teacher.to(device)
    raw, normed, at, maps, own, done = [], [], [], [], [], 0
    for indices, images in batches:
        if images is None:
            continue
        output = teacher(images.to(device), Needs(layers=frozenset({layer})))
        if layer not in output.tokens:
            raise UserError(
                f"teachers.{name}", layer, expected="a teacher that gives tokens, not ids alone"
            )
        tokens, grid = output.tokens[layer], output.grid
        if tokens.shape[1] < 2:
            raise UserError(
                f"teachers.{name}",
                f"grid {grid}",
                expected="two tokens or more",
                fix="raise --size",
            )
        raw.append(token_diversity(tokens).cpu())
        normed.append(token_diversity(tokens, layer_norm=True).cpu())
        if not bool(torch.isfinite(raw[-1]).all()):
            raise UserError(f"teachers.{name}", "NaN or infinite tokens", expected="finite ones")
        chosen = [row for row, index in enumerate(indices) if index in shown]
        if chosen:
            similarity = token_similarity(tokens[chosen], query_indices(grid))
            maps.append(similarity.unflatten(2, grid).cpu())
            own.append(raw[-1][chosen])
            at += [indices[row] for row in chosen]
        done += len(indices)
        report(done)
    teacher.cpu()
    if not done:
        raise UserError("--images", "no image that opens", expected="at least one")
    empty = torch.zeros(0, len(QUERIES), *grid)
    return Measurement(
        raw=torch.cat(raw),
        layer_norm=torch.cat(normed),
        width=tokens.shape[2],
        grid=tuple(grid),
        shown=at,
        maps=torch.cat([empty, *maps]),
        own=torch.cat([empty.new_zeros(0), *own]),
    )
