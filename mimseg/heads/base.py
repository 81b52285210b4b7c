"""What every head offers to the algorithm."""

from __future__ import annotations

from mmengine.model import BaseModule
from torch import Tensor, nn

from mimseg.errors import UserError
from mimseg.outputs import Needs, StudentOutput, TeacherOutput


class Head(BaseModule):
    """Base of the heads.

    Positions are flat indices (N,) into the (B * M, 1 + L) sequence, CLS first.

    Attributes:
        predicts_dropped: whether it can predict where the student dropped the patch.
    """

    student_needs = Needs()
    teacher_needs = Needs()
    predicts_dropped = False

    def check(
        self,
        backbone: nn.Module,
        positions: str,
        masked: bool,
        teacher: nn.Module | None = None,
    ) -> None:
        """Refuse, when the model is built, what this head cannot serve.

        A head may let go of parameters that it has no use for with this student.

        Args:
            backbone: the student.
            positions: "masked", "visible", "all" or "cls".
            masked: whether the student sees masked images.
            teacher: the teacher of the same objective.

        Raises:
            UserError: predictions are asked for at patches that the student drops.
        """
        if self.predicts_dropped or positions not in ("masked", "all"):
            return
        if masked and backbone.mask_mode == "drop":
            raise UserError(
                "head.type",
                f"mimseg.{type(self).__name__}",
                expected="a head that fills in the patches that the student drops",
                fix="mimseg.DecoderHead, or backbone.mask_mode='token', or positions='visible'",
            )

    def forward(self, student: StudentOutput, positions: Tensor) -> Tensor:
        """Predictions (N, D) at the positions."""
        raise NotImplementedError

    def target(self, teacher: TeacherOutput, normalization: nn.Module) -> Tensor:
        """The target sequence (B, 1 + L, D): the normalised tokens, unless a head says otherwise.

        A head that compares relations overrides this, so that teacher and student are treated
        alike.
        """
        return normalization(teacher)
