"""Relations between tokens instead of tokens."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mimseg.errors import UserError
from mimseg.heads.base import Head
from mimseg.outputs import QKV, Needs, StudentOutput, TeacherOutput
from mimseg.registry import MODELS


@MODELS.register_module()
class RelationHead(Head):
    """Scaled products of a block's queries, keys and values (TinyMIM, arXiv 2301.01296, Eq. 4).

    A relation is A B^T / sqrt(d) of two of q, k and v, each head for itself, with the head width d
    of the network it comes from. Both sides give logits; the loss takes the softmax. The head has
    no parameters, and the normalization is not used: mimseg.NoNormalization(layers=()).

    Args:
        in_channels: C, the student's width (filled in by the algorithm).
        out_channels: not used.
        relations: pairs such as "qk", "vv", "qq".
        teacher_layer: the teacher's block; negative ones count from the end.
        student_layer: the student's block.
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
        teacher_layer: int = -1,
        student_layer: int = -1,
        num_heads: int | None = None,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg)
        if isinstance(relations, str):
            raise UserError(
                "head.relations", relations, expected="a list of pairs", fix=f"('{relations}',)"
            )
        for pair in relations:
            if len(pair) != 2 or not set(pair) <= set("qkv"):
                raise UserError(
                    "head.relations", pair, expected="two of q, k and v, such as 'qk' or 'vv'"
                )
        if not relations:
            raise UserError(
                "head.relations", relations, expected="at least one pair", fix="('qk', 'vv')"
            )
        self.pairs = [tuple("qkv".index(letter) for letter in pair) for pair in relations]
        self.teacher_layer, self.student_layer = teacher_layer, student_layer
        self.num_heads = num_heads
        self._expect_divisor(in_channels, "the student")
        self._shape: tuple[int, int] | None = None  # (heads, keys) of the last student seen

    @property
    def student_needs(self) -> Needs:
        return Needs(qkv=frozenset({self.student_layer}), tokens=False)

    @property
    def teacher_needs(self) -> Needs:
        return Needs(qkv=frozenset({self.teacher_layer}))

    def check(
        self,
        backbone: nn.Module,
        positions: str,
        masked: bool,
        teacher: nn.Module | None = None,
    ) -> None:
        """Refuse a student that drops patches: the teacher's relations are among all of them.

        Refuse head counts that differ as well, a teacher whose width `num_heads` does not divide,
        and a CLS token on one side alone.
        """
        if masked and backbone.mask_mode == "drop":
            self._refuse_dropped()
        backbone.block_index(self.student_layer)
        if teacher is None:
            return
        teacher.check_layers(frozenset({self.teacher_layer}))
        if (shape := teacher.head_shape(self.teacher_layer)) is None:
            return
        heads, width = shape
        ours = backbone.layers[self.student_layer].attn.num_heads
        self._expect_divisor(heads * width, "the teacher")
        if self.num_heads is None and heads != ours:
            self._refuse_heads(ours, heads)
        tokens = [backbone.cls_token is not None, "cls" in teacher.offers]
        if tokens[0] != tokens[1]:
            self._refuse_tokens(*("with a CLS token" if one else "without" for one in tokens))

    def forward(self, student: StudentOutput, positions: Tensor) -> Tensor:
        """Logits (N, R, heads, 1 + L) of the queries at the positions; L keys without CLS.

        Raises:
            UserError: the student dropped patches.
        """
        if student.kept is not None:
            self._refuse_dropped()
        logits = self._relations(student.qkv[self.student_layer], student.length)
        self._shape = tuple(logits.shape[3:])
        return logits.flatten(0, 1)[positions]

    def target(self, teacher: TeacherOutput, normalization: nn.Module) -> Tensor:
        """Logits (B, 1 + L, R, heads, 1 + L); L keys for a teacher without a CLS token.

        Raises:
            UserError: heads or tokens of the two sides differ.
        """
        logits = self._relations(teacher.qkv[self.teacher_layer], teacher.grid[0] * teacher.grid[1])
        heads, keys = self._shape or logits.shape[3:]
        if heads != logits.shape[3]:
            self._refuse_heads(heads, logits.shape[3])
        if keys != logits.shape[4]:
            self._refuse_tokens(f"{keys} tokens", str(logits.shape[4]))
        return logits

    def _relations(self, qkv: QKV, length: int) -> Tensor:
        """q, k, v (B, heads, T, d) -> (B, 1 + L, R, heads, T), a row of zeros where CLS lacks."""
        if self.num_heads is not None:
            width = qkv[0].shape[1] * qkv[0].shape[3]
            self._expect_divisor(width, "the teacher")
            qkv = [
                x.transpose(1, 2).flatten(2).unflatten(2, (self.num_heads, -1)).transpose(1, 2)
                for x in qkv
            ]
        scale = qkv[0].shape[3] ** -0.5
        # Scaled before the product, which could leave the range of half precision.
        maps = [(qkv[a] * scale) @ qkv[b].transpose(2, 3) for a, b in self.pairs]
        logits = torch.stack(maps, dim=2).permute(0, 3, 2, 1, 4)
        return F.pad(logits, (0, 0, 0, 0, 0, 0, 1, 0)) if logits.shape[1] == length else logits

    def _expect_divisor(self, width: int, side: str) -> None:
        if self.num_heads is not None and width % self.num_heads:
            raise UserError(
                "head.num_heads",
                self.num_heads,
                expected=f"a divisor of {side}'s width, {width}",
                fix="a count that divides both widths, or None to keep the heads they have",
            )

    def _refuse_heads(self, ours: int, theirs: int) -> None:
        raise UserError(
            "backbone.last_block_heads",
            ours,
            expected=f"the head count of the teacher's block {self.teacher_layer}, {theirs}",
            fix=f"backbone.last_block_heads={theirs}, or head.num_heads to regroup both",
        )

    @staticmethod
    def _refuse_tokens(ours: str, theirs: str) -> None:
        raise UserError(
            "backbone.with_cls_token",
            ours,
            expected=f"tokens as the teacher's: {theirs}",
            fix="give both a CLS token or neither",
        )

    @staticmethod
    def _refuse_dropped() -> None:
        raise UserError(
            "backbone.mask_mode",
            "drop",
            expected="'token' with mimseg.RelationHead, which compares all tokens",
            fix="backbone.mask_mode='token'",
        )
