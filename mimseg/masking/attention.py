"""Draws masks guided by a teacher's attention."""

from __future__ import annotations

import torch
from torch import Tensor

from mimseg.errors import UserError
from mimseg.masking.ratio import RatioMasking, highest
from mimseg.outputs import Needs, TeacherOutput
from mimseg.registry import MODELS


@MODELS.register_module()
class AttentionMasking(RatioMasking):
    """Keep the patches visible that the teacher's CLS token attends to, more likely than others.

    Semantic aware sampling of MILAN (arXiv 2208.06049, section 3.3): the visible patches are drawn
    one after the other without replacement, each with a probability in proportion to its attention.
    That is the same as taking the highest of log(attention) + Gumbel noise.

    Args:
        ratio: share of masked patches; L - floor(L * (1 - ratio)) of L are masked, as in MAE.
        teacher: name of the teacher; "teacher" is that of the flat config keys.
        num_masks: M, masks per image, from the same attention.
        seed: fixes the masks.

    Raises:
        UserError: a ratio outside (0, 1) or one that leaves nothing masked or visible; a teacher
            that gives no attention, or one on another grid.
    """

    def __init__(
        self,
        ratio: float = 0.75,
        teacher: str = "teacher",
        num_masks: int = 1,
        seed: int | None = None,
    ) -> None:
        super().__init__(ratio, num_masks, seed)
        self.teacher = teacher

    @property
    def needs(self) -> Needs:
        return Needs(attention=True)

    def draw(
        self,
        count: int,
        grid: tuple[int, int],
        generator: torch.Generator,
        teachers: dict[str, TeacherOutput],
    ) -> Tensor:
        output = teachers.get(self.teacher)
        if output is None or output.attention is None:
            raise UserError(
                "masking.teacher",
                self.teacher,
                expected="a teacher that gives its CLS token's attention",
                fix="name a transformer with a CLS token, or use mimseg.RandomMasking",
            )
        if output.grid != tuple(grid):
            raise UserError(
                "masking.teacher",
                f"{self.teacher}, grid {output.grid}",
                expected=f"the student's grid {tuple(grid)}",
                fix="give the teacher another input_size, or another patch size",
            )
        attention = output.attention.float()
        attention = attention.repeat_interleave(count // attention.shape[0], dim=0)
        exponential = torch.empty_like(attention).exponential_(generator=generator)
        smallest = torch.finfo(torch.float32).tiny  # a patch without attention comes last
        scores = attention.clamp_min(smallest).log() - exponential.clamp_min(smallest).log()
        return ~highest(scores, scores.shape[1] - self.num_masked(grid))
