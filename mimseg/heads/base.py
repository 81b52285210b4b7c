"""Defines what every head offers to the algorithm."""

from __future__ import annotations

from dataclasses import dataclass

from mmengine.model import BaseModule
from torch import Tensor, nn

from mimseg.errors import UserError
from mimseg.outputs import Needs, StudentOutput, TeacherOutput


@dataclass(frozen=True)
class Setting:
    """The slots around a head.

    Args:
        backbone: the student.
        positions: "masked", "visible", "all" or "cls".
        masked: whether the student sees masked images.
        teacher, normalization: of the same objective; None where they do not matter.
    """

    backbone: nn.Module
    positions: str
    masked: bool
    teacher: nn.Module | None = None
    normalization: nn.Module | None = None

    @property
    def drops_patches(self) -> bool:
        """Whether the student leaves masked patches out."""
        return self.masked and self.backbone.mask_mode == "drop"


class Head(BaseModule):
    """Base of the heads.

    Positions are flat indices (N,) into the (B * M, 1 + L) sequence, CLS first.

    Attributes:
        predicts_dropped: whether it can predict where the student dropped the patch.
    """

    student_needs = Needs()
    predicts_dropped = False

    def __init_subclass__(cls, **kwargs: object) -> None:
        super().__init_subclass__(**kwargs)
        if "target" in vars(cls):
            raise UserError(
                "head.type",
                cls.__name__,
                expected="a head that only predicts: targets are the normalization's",
                fix="move `target` into a mimseg.normalizations.base.Normalization and name it in "
                "`default_normalization`",
            )

    def default_normalization(self) -> dict | None:
        """Config of the normalization that makes what this head predicts.

        It takes the place of one that is left out or `plain`. None: the head predicts tokens, and
        any normalization will do.
        """
        return None

    def check(self, setting: Setting) -> None:
        """Refuse, when the model is built, what this head cannot serve.

        A head may let go of parameters that it has no use for with this student.

        Raises:
            UserError: predictions are asked for at patches that the student drops, or of
                something else than tokens.
        """
        if setting.normalization is not None and setting.normalization.relations is not None:
            raise UserError(
                "normalization.type",
                f"mimseg.{type(setting.normalization).__name__}",
                expected=f"targets that mimseg.{type(self).__name__} can predict, not relations",
                fix="head=dict(type='mimseg.RelationHead')",
            )
        if self.predicts_dropped or setting.positions not in ("masked", "all"):
            return
        if setting.drops_patches:
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
        """`normalization(teacher)`, for callers from before version 0.2."""
        return normalization(teacher)
