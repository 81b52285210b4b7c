"""Teaches by a ViT of our own: random, a copy of the student, or a checkpoint."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from mimseg.errors import UserError
from mimseg.outputs import Needs, TeacherOutput
from mimseg.registry import MODELS
from mimseg.teachers.base import Teacher
from mimseg.teachers.taps import cls_attention
from mimseg.teachers.weights import file_digest, report_untrusted


@MODELS.register_module()
class ViTTeacher(Teacher):
    """A `mimseg.ViT` as the teacher (dBOT, arXiv 2209.03917; self-distillation).

    Args:
        init: "student" copies the student's weights once they are initialized (dBOT's first
            teacher), "random" draws its own, anything else is a checkpoint or a work dir.
        backbone: config of the network; None takes the student's own shape.
        depth: number of blocks to keep; 0 leaves the patch embedding (dBOT's L/16 and H/14).
        final_norm: whether the network's final norm is applied to the last block's tokens.
        saved: whether checkpoints hold the teacher. None: yes, unless a checkpoint file gives it,
            which is then read again on resuming and compared by its SHA-256.
        trust: unpickle code in the checkpoint.
    """

    offers = frozenset({"layers", "qkv", "attention", "cls"})

    def __init__(
        self,
        init: str = "random",
        backbone: dict | None = None,
        depth: int | None = None,
        final_norm: bool = False,
        saved: bool | None = None,
        trust: bool = False,
        **kwargs,
    ) -> None:
        super().__init__(**kwargs)
        self.init, self.depth, self.final_norm = init, depth, final_norm
        self.backbone_cfg, self.backbone = backbone, None
        self.saved = init in ("student", "random") if saved is None else saved
        self.sha256: str | None = None
        self.trust = trust

    def bind(self, student: nn.Module) -> None:
        if self.backbone_cfg is None:
            self.backbone = copy.deepcopy(student)
            self.backbone.init_cfg = None
        else:
            self.backbone = MODELS.build(self.backbone_cfg)
        net = self.backbone
        if self.depth is not None:
            if not 0 <= self.depth <= len(net.layers):
                raise UserError("teacher.depth", self.depth, expected=f"0 to {len(net.layers)}")
            net.layers = net.layers[: self.depth]
            net.num_layers = self.depth
        if self.final_norm and net.ln1 is None:
            raise UserError("teacher.final_norm", True, expected="a backbone with a final norm")
        net.mask_token = None  # a teacher sees full images
        if net.cls_token is None:
            self.offers -= {"attention", "cls"}
        if not net.num_layers:
            self.offers -= {"attention", "qkv"}
        self.out_channels, self.stride = net.embed_dims, net.patch_size

    def load(self, student: nn.Module) -> None:
        if self.init == "student":
            state, tensors = student.state_dict(), self.backbone.state_dict()
            if any(k not in state or state[k].shape != v.shape for k, v in tensors.items()):
                raise UserError(
                    "teacher.init",
                    "student",
                    expected="a teacher of the student's own shape",
                    fix="leave teacher.backbone out, or use init='random'",
                )
            self.backbone.load_state_dict({key: state[key] for key in tensors})
        else:
            self.backbone.init_weights()
            if self.init != "random":
                self._load_checkpoint()

    def _load_checkpoint(self) -> None:
        from mimseg.checkpoints.files import resolve_checkpoint
        from mimseg.checkpoints.loader import load_backbone

        path = Path(resolve_checkpoint(self.init, "teacher.init"))
        with report_untrusted():
            load_backbone(
                self.backbone,
                str(path),
                trust=self.trust,
                key="teacher.init",
                extra_layers=self.depth is not None,
            )
        self.sha256 = file_digest(str(path))

    def check_layers(self, layers: frozenset[int]) -> None:
        for layer in layers:
            self.backbone.block_index(layer)

    def blocks(self) -> list[nn.Module]:
        return list(self.backbone.layers)

    def head_shape(self, layer: int) -> tuple[int, int]:
        heads = self.backbone.layers[layer].attn.num_heads
        return heads, self.backbone.embed_dims // heads

    def fingerprint(self) -> str | None:
        return self.sha256

    @torch.no_grad()
    def targets(self, images: Tensor, needs: Needs) -> TeacherOutput:
        """Tokens (B, L, C) and CLS (B, C) after the blocks asked for, q, k, v and attention."""
        net = self.backbone
        last = net.num_layers - 1
        asked = replace(needs, qkv=needs.qkv | {last}) if needs.attention else needs
        grid, taps, qkv = net.tap(images, asked)
        attention = None
        if needs.attention:
            attention = cls_attention(*qkv[last][:2], 1, net.block_bias(last, grid))
        if self.final_norm:
            taps = {k: net.ln1(x) if net.block_index(k) == last else x for k, x in taps.items()}
        first = int(net.cls_token is not None)
        return TeacherOutput(
            grid,
            tokens={layer: x[:, first:] for layer, x in taps.items()},
            cls={layer: x[:, 0] for layer, x in taps.items()} if first else {},
            qkv={layer: parts for layer, parts in qkv.items() if layer in needs.qkv},
            attention=attention,
        )
