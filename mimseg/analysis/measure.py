"""Runs a teacher over images and keeps what its tokens are like."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mimseg.analysis.token_diversity import token_diversity, token_similarity
from mimseg.errors import UserError
from mimseg.outputs import Needs
from mimseg.teachers.base import Teacher

# Where the query patches lie, as shares of height and width.
QUERIES = ((0.53, 0.53), (0.25, 0.25), (0.75, 0.68))  # amid a patch of a 14x14 grid


@dataclass
class Measured:
    """What one teacher's tokens are like.

    Args:
        raw, layer_norm: (N,) diversity of each image.
        width: D.
        grid: (h, w).
        shown: indices of the images there are maps of.
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
    """The patches that the query places lie in."""
    return [int(y * grid[0]) * grid[1] + int(x * grid[1]) for y, x in QUERIES]


@torch.no_grad()
def measure(
    name: str,
    teacher: Teacher,
    layer: int,
    batches: Iterable[tuple[Sequence[int], Tensor | None]],
    shown: Sequence[int],
    device: torch.device,
    tell: Callable[[int], None] = lambda count: None,
) -> Measured:
    """Run a teacher over batches of images.

    Args:
        name: the teacher's name, for errors.
        layer: whose tokens are looked at.
        batches: indices, and images (B, 3, H, W) in [0, 1], or None where none opened.
        shown: indices of the images to make similarity maps of.
        tell: called after each batch with the number of images done so far.

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
            found = token_similarity(tokens[chosen], query_indices(grid))
            maps.append(found.unflatten(2, grid).cpu())
            own.append(raw[-1][chosen])
            at += [indices[row] for row in chosen]
        done += len(indices)
        tell(done)
    teacher.cpu()
    if not done:
        raise UserError("--images", "no image that opens", expected="at least one")
    empty = torch.zeros(0, len(QUERIES), *grid)
    return Measured(
        raw=torch.cat(raw),
        layer_norm=torch.cat(normed),
        width=tokens.shape[2],
        grid=tuple(grid),
        shown=at,
        maps=torch.cat([empty, *maps]),
        own=torch.cat([empty.new_zeros(0), *own]),
    )
