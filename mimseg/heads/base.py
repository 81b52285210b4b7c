"""What every head offers to the algorithm."""

from __future__ import annotations

from mmengine.model import BaseModule
from torch import Tensor, nn

from mimseg.algorithms.outputs import Needs, StudentOutput, TeacherOutput


class Head(BaseModule):
    """Base of the heads.

    Positions are flat indices (N,) into the (B * M, 1 + L) sequence, CLS first.
    """

    student_needs = Needs()
    teacher_needs = Needs()

    def forward(self, student: StudentOutput, positions: Tensor) -> Tensor:
        """Predictions (N, D) at the positions."""
        raise NotImplementedError

    def target(self, teacher: TeacherOutput, normalization: nn.Module) -> Tensor:
        """The target sequence (B, 1 + L, D): the normalised tokens, unless a head says otherwise.

        A head that compares relations overrides this, so that teacher and student are treated
        alike.
        """
        return normalization(teacher)
