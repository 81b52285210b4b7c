"""A small size, and how numbers of a full-size config map into it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from mimseg.errors import UserError


@dataclass(frozen=True)
class Size:
    """What every network of a shrunken config is brought to.

    Args:
        width: channels of a token; a multiple of 4, for sine-cosine positions.
        depth: blocks.
        img_size: side of the student's images.
        patch_size: side of the student's patches.

    Raises:
        UserError: a size that no network can have.
    """

    width: int = 48
    depth: int = 6
    img_size: int = 64
    patch_size: int = 8

    def __post_init__(self) -> None:
        if self.width < 8 or self.width % 4:
            raise UserError("width", self.width, expected="a multiple of 4 from 8")
        if self.depth < 2:
            raise UserError("depth", self.depth, expected="at least 2 blocks")
        if self.patch_size < 1 or self.img_size % self.patch_size:
            raise UserError(
                "img_size", self.img_size, expected=f"a multiple of patch_size = {self.patch_size}"
            )

    @property
    def grid(self) -> int:
        """Side of the token grid."""
        return self.img_size // self.patch_size

    @property
    def decoder(self) -> int:
        """Width of a decoder: about two thirds of the student's, as 512 is of 768."""
        return max(4, self.width // 6 * 4)

    def heads(self, count: int, width: int | None = None) -> int:
        """Half as many heads, or the nearest divisor of the width.

        It depends on the count alone, so that networks with equal head counts keep them equal.
        """
        width = width or self.width
        divisors = [d for d in range(1, width + 1) if width % d == 0]
        return min(divisors, key=lambda d: (abs(2 * d - count), d))

    def blocks(self, count: int, depth: int) -> int:
        """How many of our blocks are `count` of `depth`; none stays none."""
        return 0 if not count else max(1, round(count * self.depth / depth))

    def layer(self, index: int, depth: int) -> int:
        """A block at the same share of the depth; the last stays the last, and it alone.

        Args:
            index: of `depth` blocks; a negative one counts from the end and stays negative.
            depth: 0 for a network without blocks, whose one layer is -1.
        """
        place = index + depth if index < 0 else index
        if not 0 <= place < depth:
            return index  # not a block: the network's own error is the better one
        new = round((place + 1) * self.depth / depth) - 1
        new = min(max(new, 0), self.depth - (1 if place == depth - 1 else 2))
        return new - self.depth if index < 0 else new

    def layers(self, indices: Iterable[int], depth: int) -> tuple[int, ...]:
        """Several of them, each once."""
        return tuple(dict.fromkeys(self.layer(index, depth) for index in indices))

    def patch(self, old: int, student: int) -> int:
        """A teacher's patch that stands to ours as `old` stood to the student's old one."""
        return max(1, round(old * self.patch_size / student))
