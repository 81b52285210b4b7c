"""Computes one term of the training loss."""

from __future__ import annotations

import torch
from mmengine.model import BaseModule
from torch import Tensor, nn

from mimseg.errors import UserError, require_choice
from mimseg.heads.base import Head
from mimseg.losses.base import declarations
from mimseg.normalizations.base import Normalization
from mimseg.outputs import Needs, StudentOutput, TeacherOutput

POSITIONS = ("masked", "visible", "all", "cls")


class Objective(BaseModule):
    """loss( normalization( teacher ), head( student ) ), averaged over the chosen positions.

    The unified view of arXiv 2210.10615.

    Args:
        teacher: the name of the teacher in the algorithm's bank.
        normalization, head, loss: built modules.
        weight: factor of this term in the sum.
        positions: "masked", "visible" or "all" patches, or "cls": the CLS token alone.
        with_cls: whether the CLS position is predicted along with the patches (dBOT).
    """

    def __init__(
        self,
        teacher: str,
        normalization: Normalization,
        head: Head,
        loss: nn.Module,
        weight: float = 1.0,
        positions: str = "masked",
        with_cls: bool = False,
    ) -> None:
        super().__init__()
        require_choice("positions", positions, POSITIONS)
        self.teacher, self.weight = teacher, weight
        self.positions_kind, self.with_cls = positions, with_cls or positions == "cls"
        self.normalization, self.head = normalization, head
        self.criterion = loss  # `loss` would read like a method

    @property
    def teacher_needs(self) -> Needs:
        return self.normalization.needs | declarations(self.criterion).needs

    @property
    def one_mask(self) -> bool:
        """Whether an image may have one mask only."""
        return declarations(self.criterion).one_mask

    @property
    def student_needs(self) -> Needs:
        return self.head.student_needs

    def forward(self, student: StudentOutput, teacher: TeacherOutput) -> Tensor:
        """The weighted mean loss, a float32 scalar.

        Raises:
            UserError: the teacher's grid is not the student's.
        """
        if teacher.grid != student.grid:
            raise UserError(
                f"teacher ({self.teacher})",
                f"grid {teacher.grid}",
                expected=f"the student's grid {student.grid}",
                fix="give the teacher a view of another size, or another patch size",
            )
        positions = self.positions(student)
        target = self.target(student, teacher, positions)
        prediction = self.head(student, positions)
        return self.weight * self.criterion(prediction, target).mean()

    def positions(self, student: StudentOutput) -> Tensor:
        """Flat indices (N,) into the (B * M, 1 + L) sequence, CLS first, row by row."""
        tokens, length = student.tokens, student.length
        rows = tokens.shape[0]
        if self.positions_kind == "cls":
            return torch.arange(rows, device=tokens.device) * (1 + length)
        chosen = torch.ones(rows, 1 + length, dtype=torch.bool, device=tokens.device)
        chosen[:, 0] = self.with_cls
        if self.positions_kind != "all" and student.mask is not None:
            masked = self.positions_kind == "masked"
            chosen[:, 1:] = student.mask if masked else ~student.mask
        if student.kept is not None and self.positions_kind != "all":  # the count is known
            visible = student.kept.shape[1]
            count = (length - visible if masked else visible) + int(self.with_cls)
            order = chosen.logical_not().to(torch.uint8).argsort(dim=1, stable=True)[:, :count]
            offsets = torch.arange(rows, device=tokens.device)[:, None] * (1 + length)
            return (order + offsets).flatten()
        return chosen.flatten().nonzero().flatten()

    @torch.no_grad()
    def target(self, student: StudentOutput, teacher: TeacherOutput, positions: Tensor) -> Tensor:
        """The targets at the positions; the teacher saw B images, positions run over B * M."""
        sequence = self.normalization(teacher)
        masks = student.tokens.shape[0] // sequence.shape[0]
        width = 1 + student.length
        if masks > 1:
            positions = positions // (width * masks) * width + positions % width
        return sequence.flatten(0, 1)[positions]
