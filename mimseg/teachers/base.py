"""Defines what every teacher offers to the algorithm."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mimseg.data.transform import IMAGENET_MEAN, IMAGENET_STD
from mimseg.errors import UserError
from mimseg.outputs import Needs, TeacherOutput


class Teacher(nn.Module):
    """Base of the teachers. A teacher is frozen and runs in eval mode and under no_grad.

    The algorithm keeps teachers out of its own modules: no optimizer, wrapper or average sees them.
    It calls `bind` once when it is built and `load` once when weights are initialized.

    Args:
        mean, std: RGB normalization of this network, for images in [0, 1].
        input_size: side of the images this network sees: the view is resized, antialiased and
            bicubic (196 for a /14 teacher of a 14x14 grid). None takes the view as it is.
        view: which of the batch's views it sees; one that the data lacks is the "teacher" view.

    Attributes:
        out_channels: D, the width of the targets; known after `bind`.
        stride: pixels per token, where a token is a patch of that side.
        offers: which of `Needs`' fields it can answer, and "cls" where it has a CLS token.
        saved: whether the teacher's tensors go into checkpoints. A teacher that cannot be made
            again from its config (random, a copy of the student, an earlier stage) must be saved.
    """

    out_channels: int
    stride: int
    offers: frozenset[str] = frozenset({"layers"})
    saved: bool = False

    def __init__(
        self,
        mean: Sequence[float] = IMAGENET_MEAN,
        std: Sequence[float] = IMAGENET_STD,
        input_size: int | None = None,
        view: str = "teacher",
    ) -> None:
        super().__init__()
        self.input_size, self.view = input_size, view
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(1, 3, 1, 1), persistent=False)

    def bind(self, student: nn.Module) -> None:
        """Build what depends on the student's shape. Nothing is loaded or downloaded here."""

    def load(self, student: nn.Module) -> None:
        """Draw or load the weights; the student's own are initialized by now."""

    def require_source(self) -> None:
        """See, before any data is read, that the weights can be had.

        Raises:
            UserError: a file that is missing, or a download that is not possible now.
        """

    def check(self, name: str, needs: Needs) -> None:
        """Refuse, when the model is built, what this teacher cannot give.

        Raises:
            UserError: a kind of target, or a block, that it does not have.
        """
        kinds = {kind for kind in ("layers", "qkv", "attention", "ids") if getattr(needs, kind)}
        if lacking := kinds - self.offers:
            raise UserError(
                f"teacher ({name})",
                getattr(self, "model", type(self).__name__),
                expected=f"one that gives {', '.join(sorted(lacking))}, which a normalization, a "
                f"loss or a mask asks for; this one gives {', '.join(sorted(self.offers))}",
                fix="tokenizers go with mimseg.NoNormalization(ids=True)" * ("ids" in self.offers),
            )
        self.check_layers(needs.layers | needs.qkv)

    def check_layers(self, layers: frozenset[int]) -> None:
        """Raise UserError for a block that the network does not have."""

    def head_shape(self, layer: int) -> tuple[int, int] | None:
        """A block's attention heads and the width of one; None where there are no blocks."""
        return None

    def blocks(self) -> list[nn.Module]:
        """The transformer blocks in order; none where there are none."""
        return []

    def plain_blocks(self, needs: Needs) -> list[nn.Module]:
        """The blocks that are only run: nobody looks at what is inside for these needs."""
        blocks = self.blocks()
        watched = {layer % len(blocks) for layer in needs.qkv} if blocks else set()
        if needs.attention:
            watched.add(len(blocks) - 1)
        return [block for index, block in enumerate(blocks) if index not in watched]

    def grid_of(self, height: int, width: int) -> tuple[int, int]:
        """(h, w) of the tokens for a view of that size."""
        if self.input_size:
            height = width = self.input_size
        return -(-height // self.stride), -(-width // self.stride)

    def settings_for(self, grid: tuple[int, int]) -> dict[str, int]:
        """Options of this teacher that give it that grid, whatever its view; {} where none does."""
        return {"input_size": grid[0] * self.stride} if grid[0] == grid[1] else {}

    def fingerprint(self) -> str | None:
        """SHA-256 of the file the weights came from, if any: a resumed run compares it."""
        return None

    def forward(self, images: Tensor, needs: Needs) -> TeacherOutput:
        """(B, 3, H, W) in [0, 1] -> targets; subclasses implement `targets`."""
        if self.input_size and images.shape[2:] != (self.input_size, self.input_size):
            size = (self.input_size, self.input_size)
            images = F.interpolate(images, size, mode="bicubic", antialias=True).clamp(0, 1)
        return self.targets((images - self.mean) / self.std, needs)

    def targets(self, images: Tensor, needs: Needs) -> TeacherOutput:
        """(B, 3, H, W), normalized -> targets."""
        raise NotImplementedError

    def to_image(self, tokens: Tensor, grid: tuple[int, int]) -> Tensor | None:
        """Targets (B, L, D) -> an RGB image (B, 3, H, W) in [0, 1], where that has a meaning."""
        return None
