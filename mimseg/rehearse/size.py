"""Maps numbers of a full-size config to a small size."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from mimseg.errors import UserError


@dataclass(frozen=True)
class Size:
    """What every network of a small config is brought to.

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

    def taps(self, indices: Iterable[int], depth: int) -> tuple[int, ...]:
        """As many blocks as `indices` has, in their order: a neck counts on their number.

        Raises:
            UserError: more of them than there are blocks.
        """
        indices = tuple(indices)
        if len(indices) > self.depth:
            raise UserError(
                "backbone.out_indices", indices, expected=f"at most {self.depth} blocks to rehearse"
            )
        small = tuple(self.layer(index, depth) for index in indices)
        if len({place % self.depth for place in small}) == len(small):
            return small
        return tuple(range(self.depth - len(small), self.depth))

    def channels(self, count: int, width: int) -> int:
        """Channels of what follows a student: its own width, or an eighth in steps of 8 from 16.

        It depends on the count alone, so that parts with equal channels keep them equal.

        Args:
            count: what a full-size part has.
            width: the full-size student's width.
        """
        return self.width if count == width else min(count, max(16, count // 64 * 8))

    def patch(self, old: int, student: int) -> int:
        """A teacher's patch, in the proportion that `old` has to the student's patch."""
        return max(1, round(old * self.patch_size / student))
