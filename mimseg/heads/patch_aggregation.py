"""Predicts from the final tokens, and again from an early block's patches with the final CLS."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mimseg.errors import UserError
from mimseg.heads.base import Setting
from mimseg.heads.token import TokenHead
from mimseg.layers.block import LayerScale, TransformerBlock, shrink_residual_branches
from mimseg.outputs import Needs, StudentOutput
from mimseg.registry import MODELS


@MODELS.register_module()
class PatchAggregationHead(TokenHead):
    """Two predictions per position (BEiT v2, arXiv 2208.06366, section 2.3).

    The main one reads the student's final token. For the other, the final CLS token is joined with
    the patch tokens after block `in_layer` and goes through extra blocks. Both pass one norm and
    one linear projection. The norm is the head's own, so the student must have none
    (`backbone.final_norm=False`). The extra blocks take the relative position bias that the
    student's blocks share, if they share one. The head is dropped after pretraining.

    Args:
        in_channels: C, the student's width (filled in by the algorithm).
        out_channels: D, the vocabulary or the target's width (filled in by the algorithm).
        in_layer: the student's block, counted from 0, whose patches are aggregated.
        depth, num_heads, mlp_ratio, qkv_bias: shape of the extra blocks.
        layer_scale: initial layer scale of the extra blocks; 0 for none.
        drop_path_rate: drop path rate of the extra blocks; one number, or one for each block.
        norm_eps: epsilon of the layer norms.

    Raises:
        UserError: `in_layer` is negative, or there is not one drop path rate for each block.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        in_layer: int,
        depth: int = 2,
        num_heads: int = 12,
        mlp_ratio: float = 4.0,
        qkv_bias: bool = True,
        layer_scale: float = 0.1,
        drop_path_rate: float | Sequence[float] = 0.0,
        norm_eps: float = 1e-6,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg)
        rates = drop_path_rate
        rates = list(rates) if isinstance(rates, Sequence) else [rates] * depth
        if len(rates) != depth:
            raise UserError(
                "head.drop_path_rate", drop_path_rate, expected=f"one number, or {depth}"
            )
        if in_layer < 0:  # the blocks' initialization depends on their depth
            raise UserError(
                "head.in_layer", in_layer, expected="a block index counted from 0", fix="8 of 12"
            )
        self.in_layer, self.num_heads = in_layer, num_heads
        self.layers = nn.ModuleList(
            TransformerBlock(
                in_channels,
                num_heads,
                int(mlp_ratio * in_channels),
                qkv_bias=qkv_bias,
                layer_scale=layer_scale,
                drop_path=rate,
                norm_eps=norm_eps,
            )
            for rate in rates
        )
        self.norm = nn.LayerNorm(in_channels, eps=norm_eps)
        self.projection = nn.Linear(in_channels, out_channels)

    @property
    def student_needs(self) -> Needs:
        return Needs(layers=frozenset({self.in_layer}))

    def check(self, setting: Setting) -> None:
        """Refuse a student that drops patches, has a final norm or shares a bias of other heads."""
        backbone = setting.backbone
        if setting.drops_patches:
            self._refuse("backbone.mask_mode", "drop", "token")
        if backbone.ln1 is not None:
            self._refuse("backbone.final_norm", True, False)
        if not 0 <= self.in_layer < backbone.num_layers - 1:
            raise UserError(
                "head.in_layer",
                self.in_layer,
                expected=f"a block before the last of the student's {backbone.num_layers}",
            )
        heads = backbone.layers[0].attn.num_heads
        if backbone.rel_pos_bias is not None and heads != self.num_heads:
            raise UserError(
                "head.num_heads",
                self.num_heads,
                expected=f"{heads}, as the student shares its bias with it",
            )

    def init_weights(self) -> None:
        """Truncated normal (0.02); residual branches divided by sqrt(2 n) as the student's are.

        n is the number of the block, from 1, were the extra blocks to follow block `in_layer`
        (arXiv 2106.08254, section 2.5).
        """
        super().init_weights()
        shrink_residual_branches(self.layers, first=self.in_layer + 2)
        for module in self.modules():
            if isinstance(module, LayerScale):
                nn.init.constant_(module.weight, module.value)

    def forward(self, student: StudentOutput, positions: Tensor) -> Tensor:
        """Main and aggregated prediction (N, 2, D)."""
        if student.kept is not None:
            self._refuse("backbone.mask_mode", "drop", "token")
        if student.cls is None:
            self._refuse("backbone.with_cls_token", False, True)
        joined = torch.cat([student.cls[:, None], student.taps[self.in_layer]], dim=1)
        for layer in self.layers:
            joined = layer(joined, student.attention_bias)
        main = self.read(student, positions)
        both = torch.stack([main, joined.flatten(0, 1)[positions].to(main.dtype)], dim=1)
        return self.projection(self.norm(both))

    @staticmethod
    def _refuse(key: str, value: object, expected: object) -> None:
        fix = f"{key}={expected!r}"
        raise UserError(
            key, value, expected=f"{expected!r} with mimseg.PatchAggregationHead", fix=fix
        )
