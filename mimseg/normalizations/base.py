"""Defines what every normalization offers to the algorithm."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from mimseg.errors import UserError
from mimseg.layers.relations import TokenRelations
from mimseg.outputs import Needs, TeacherOutput


class Normalization(nn.Module):
    """Base of the normalizations; subclasses implement `normalize`.

    Several layers are normalized one by one and then averaged (data2vec, arXiv 2202.03555,
    section 3.3).

    Args:
        layers: the teacher's blocks that make up the target; negative ones count from the end.

    Attributes:
        may_lack_layers: whether there may be none.
        plain: whether it leaves the teacher's tokens as they are. A head that predicts something
            else then gets its default (`Head.default_normalization`).
        relations: the relations that the target consists of; None for tokens or ids.
    """

    may_lack_layers = False
    plain = False
    relations: TokenRelations | None = None

    def __init__(self, layers: Sequence[int] = (-1,)) -> None:
        super().__init__()
        self.layers = tuple(layers)
        if not self.layers and not self.may_lack_layers:
            raise UserError(
                "normalization.layers", self.layers, expected="at least one block", fix="(-1,)"
            )

    @property
    def needs(self) -> Needs:
        return Needs(layers=frozenset(self.layers))

    def bind(self, width: int) -> None:
        """Make buffers for targets of width D; the algorithm calls it once, on building."""

    def forward(self, teacher: TeacherOutput) -> Tensor:
        """The target sequence (B, 1 + L, D), CLS first, in float32."""
        total = 0.0
        for layer in self.layers:
            total = total + self.normalize(teacher.sequence(layer).float())
        return total / len(self.layers)

    def normalize(self, tokens: Tensor) -> Tensor:
        """(B, 1 + L, D) float32 -> the same shape."""
        raise NotImplementedError

    def denormalize(self, prediction: Tensor, teacher: TeacherOutput) -> Tensor:
        """Undo `normalize` on predictions (B, L, D), with the teacher's tokens as the reference."""
        return prediction
