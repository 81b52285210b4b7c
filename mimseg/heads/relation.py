"""Predicts relations between tokens instead of tokens."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from mimseg.errors import UserError
from mimseg.heads.base import Head, Setting
from mimseg.layers.relations import TokenRelations
from mimseg.outputs import Needs, StudentOutput
from mimseg.registry import MODELS


@MODELS.register_module()
class RelationHead(Head):
    """Relations between the student's tokens (TinyMIM, arXiv 2301.01296, Eq. 4).

    The teacher's are mimseg.Relations', a normalization with the same `relations` and `num_heads`.
    An objective whose normalization is left out, or mimseg.NoNormalization, gets that one. The head
    has no parameters.

    Args:
        in_channels: C, the student's width (filled in by the algorithm).
        out_channels: not used.
        relations: pairs such as "qk", "vv", "qq".
        teacher_layer: the teacher's block for a normalization that is left out, -1 unless given;
            otherwise mimseg.Relations' `layer` says it.
        student_layer: the student's block; negative ones count from the end.
        num_heads: regroup the channels of both sides into this many heads (MiniLMv2,
            arXiv 2012.15828); None keeps the heads they have, whose counts must then be equal
            (`backbone.last_block_heads`).

    Raises:
        UserError: an unknown relation, or a head count that does not divide a width.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int | None = None,
        relations: Sequence[str] = ("qk", "vv"),
        teacher_layer: int | None = None,
        student_layer: int = -1,
        num_heads: int | None = None,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg)
        self.relations = TokenRelations(relations, num_heads, "head")
        self.relations.check_width(in_channels, "student")
        self.teacher_layer, self.student_layer = teacher_layer, student_layer

    @property
    def student_needs(self) -> Needs:
        return Needs(qkv=frozenset({self.student_layer}), tokens=False)

    def default_normalization(self) -> dict:
        """The teacher's side of the same relations."""
        return dict(
            type="mimseg.Relations",
            relations=self.relations.pairs,
            layer=-1 if self.teacher_layer is None else self.teacher_layer,
            num_heads=self.relations.num_heads,
        )

    def check(self, setting: Setting) -> None:
        """Refuse a student that drops patches: the teacher's relations are among all of them.

        Refuse as well two sides that are not alike: other relations, head counts that differ, a
        teacher whose width `num_heads` does not divide, or a CLS token on one side alone.
        """
        if setting.drops_patches:
            self._refuse_dropped()
        setting.backbone.block_index(self.student_layer)
        if setting.normalization is not None:
            self._check_normalization(setting.normalization)
            if setting.teacher is not None:
                self._check_teacher(setting)

    def _check_normalization(self, normalization: nn.Module) -> None:
        if normalization.relations != self.relations:
            options = f"relations={self.relations.pairs}, num_heads={self.relations.num_heads}"
            raise UserError(
                "normalization",
                normalization.relations or f"mimseg.{type(normalization).__name__}",
                expected=f"the relations of mimseg.RelationHead, {options}",
                fix=f"normalization=dict(type='mimseg.Relations', {options})",
            )
        (layer,) = normalization.layers
        if self.teacher_layer not in (None, layer):
            raise UserError(
                "head.teacher_layer",
                self.teacher_layer,
                expected=f"nothing: normalization.layer = {layer} says it",
                fix="leave it out",
            )

    def _check_teacher(self, setting: Setting) -> None:
        backbone, teacher = setting.backbone, setting.teacher
        (layer,) = setting.normalization.layers
        teacher.check_layers(frozenset({layer}))
        if (shape := teacher.head_shape(layer)) is None:
            return
        heads, width = shape
        count = backbone.layers[self.student_layer].attn.num_heads
        self.relations.check_width(heads * width)
        if self.relations.num_heads is None and heads != count:
            raise UserError(
                "backbone.last_block_heads",
                count,
                expected=f"the head count of the teacher's block {layer}, {heads}",
                fix=f"backbone.last_block_heads={heads}, or num_heads to regroup both sides",
            )
        cls = [backbone.cls_token is not None, "cls" in teacher.offers]
        if cls[0] != cls[1]:
            student, theirs = ("with a CLS token" if one else "without" for one in cls)
            raise UserError(
                "backbone.with_cls_token",
                student,
                expected=f"tokens as the teacher's: {theirs}",
                fix="give both a CLS token or neither",
            )

    def forward(self, student: StudentOutput, positions: Tensor) -> Tensor:
        """Logits (N, R, heads, 1 + L) of the queries at the positions; L keys without CLS.

        Raises:
            UserError: the student dropped patches.
        """
        if student.kept is not None:
            self._refuse_dropped()
        logits = self.relations(student.qkv[self.student_layer], student.length)
        return logits.flatten(0, 1)[positions]

    @staticmethod
    def _refuse_dropped() -> None:
        raise UserError(
            "backbone.mask_mode",
            "drop",
            expected="'token' with mimseg.RelationHead, which compares all tokens",
            fix="backbone.mask_mode='token'",
        )
