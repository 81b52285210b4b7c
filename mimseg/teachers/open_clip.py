"""Teaches by the image tower of a CLIP model."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import open_clip
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mimseg.checkpoints import clip
from mimseg.errors import UserError, require_choice
from mimseg.layers.position import resize_position_embedding
from mimseg.outputs import QKV, Needs, TeacherOutput
from mimseg.registry import MODELS
from mimseg.teachers import weights as hub
from mimseg.teachers.base import Teacher
from mimseg.teachers.download import downloading, require_download
from mimseg.teachers.open_clip_build import build_tower, read_config
from mimseg.teachers.taps import asked_blocks, cls_attention, gather, recorded_inputs, same_size

OUTPUTS = ("tokens", "post", "proj")


@MODELS.register_module()
class OpenCLIPTeacher(Teacher):
    """The image tower of a CLIP model (MaskDistill, arXiv 2210.10615; MILAN; dBOT's CLIP teacher).

    The text tower is not kept. OpenAI's weights need a model with QuickGELU: "ViT-B-16-quickgelu".

    Args:
        model: open_clip's name of the model, or a dict (embed_dim, vision_cfg, quick_gelu) as in
            its config files.
        weights: "hub:TAG" ("hub:openai") downloads when weights are initialized, "random" draws,
            anything else is a local file: a whole CLIP model or its tower, in open_clip's,
            OpenAI's or Hugging Face's names. There is no default, as in `TimmTeacher`.
        output: "tokens", the block's output; "post", its last norm `ln_post`; "proj", projected to
            the embedding as well. Each applies to all tokens of every layer asked for, where CLIP
            itself does so for the CLS token of the last block alone.
        img_size: side or (H, W) that the position table is resized to. None takes `input_size`, or
            the model's own.
        shifted_sampling: resize the table with the shifted sampling of BEiT v2's and dBOT's code.
        trust: unpickle code in the weights file; OpenAI's own .pt is a TorchScript archive.
        mean, std: None takes CLIP's, or those of the hub's tag.
        input_size: see `Teacher`.

    Raises:
        UserError: a model, tag, output or size that does not exist or does not fit.
    """

    offers = frozenset({"layers", "qkv", "attention", "cls"})

    def __init__(
        self,
        model: str | dict,
        weights: str | Path | None = None,
        output: str = "tokens",
        img_size: int | tuple[int, int] | None = None,
        shifted_sampling: bool = False,
        trust: bool = False,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        input_size: int | None = None,
        **kwargs,
    ) -> None:
        self.weights = hub.check_weights(weights, "hub:TAG")
        require_choice("teacher.output", output, OUTPUTS)
        self.model, self.cfg = read_config(model)
        self.quick_gelu = bool(self.cfg.get("quick_gelu", False))
        self.from_hub = self.weights == "hub" or self.weights.startswith("hub:")
        tag = self._tag() if self.from_hub else {}
        mean = mean or tag.get("mean") or open_clip.OPENAI_DATASET_MEAN
        std = std or tag.get("std") or open_clip.OPENAI_DATASET_STD
        super().__init__(mean=mean, std=std, input_size=input_size, **kwargs)
        if input_size and not same_size(img_size, input_size):
            raise UserError(
                "teacher.input_size", input_size, expected=f"img_size {img_size}", fix="drop one"
            )
        if img_size or input_size:
            self.cfg["vision_cfg"] = {
                **self.cfg["vision_cfg"],
                "image_size": img_size or input_size,
            }
        self.resized = img_size is not None
        self.net = build_tower(self.model, self.cfg)
        self.stride = self.net.patch_size[0]
        self.output, self.shifted_sampling, self.trust = output, shifted_sampling, trust
        if output != "tokens" and self.net.attn_pool is not None:
            expected = f"'tokens': {self.model} pools before its last norm"
            raise UserError("teacher.output", output, expected=expected)
        width = self.net.transformer.width
        self.out_channels = self.net.output_dim if output == "proj" else width
        self.saved = self.weights == "random"
        self.sha256: str | None = None

    # ------------------------------------------------------------------ weights

    def _tag(self) -> dict:
        """open_clip's entry for "hub:TAG"."""
        tag = self.weights.partition(":")[2]
        entry = open_clip.get_pretrained_cfg(self.model, tag)
        if not entry:
            tags = [f"hub:{t}" for t in open_clip.list_pretrained_tags_by_model(self.model)]
            raise UserError(
                hub.KEY,
                self.weights,
                expected=f"a tag of open_clip's {self.model} ({', '.join(tags) or 'it has none'})",
                fix="or give a weights file",
            )
        self._check_activation(bool(entry.get("quick_gelu")), self.weights)
        return dict(entry)

    def _check_activation(self, quick: bool, source: str) -> None:
        if quick == self.quick_gelu:
            return
        base = self.model.removesuffix("-quickgelu")
        fitting = f"{base}-quickgelu" if quick else base
        fix = f"model={fitting!r}"
        if fitting not in open_clip.list_models():
            fix = f"a model dict with quick_gelu={quick}"
        kind = "QuickGELU" if quick else "GELU"
        raise UserError(
            "teacher.model",
            self.model,
            expected=f"a model with {kind}, as {source} was trained with",
            fix=fix,
        )

    def require_source(self) -> None:
        if self.from_hub:
            require_download(self.weights, self._place())
        elif self.weights != "random":
            hub.require_file(self.weights)

    def _place(self) -> str:
        """Where open_clip downloads from: an address, or a repository without its file."""
        tag = self._tag()
        return os.path.dirname(tag["hf_hub"]) if tag.get("hf_hub") else str(tag.get("url"))

    def load(self, student: nn.Module) -> None:
        if self.weights == "random":
            self.net.load_state_dict(build_tower(self.model, self.cfg).state_dict())
            return
        path = self._download() if self.from_hub else self.weights
        state, digest = hub.read_weights(path, self.trust)
        if clip.is_openai(state):
            self._check_activation(True, path)
        state = clip.to_ours(state)
        table = state.get("positional_embedding")
        resized = []
        if table is not None and table.ndim == 2:
            state["positional_embedding"] = self._fit(table)
            resized += ["positional_embedding"] * (len(state["positional_embedding"]) != len(table))
        hub.load_exact(self.net, state, path, self.model, resized=resized)
        self.sha256 = digest

    def _download(self) -> str:
        with downloading(self.weights, self._place()):
            return open_clip.download_pretrained(self._tag())

    def _fit(self, table: Tensor) -> Tensor:
        """The position table (1 + L, D) of a square grid, for our grid."""
        side = round((table.shape[0] - 1) ** 0.5)
        if side * side != table.shape[0] - 1 or side == 0:
            return table  # of our own grid, or for the loader to refuse
        grid = tuple(self.net.grid_size)
        options = dict(with_cls=True, shifted=self.shifted_sampling)
        return resize_position_embedding(table[None], (side, side), grid, **options)[0]

    def fingerprint(self) -> str | None:
        return self.sha256

    # ------------------------------------------------------------------ forward

    def check_layers(self, layers: frozenset[int]) -> None:
        asked_blocks(layers, self.net.transformer.layers, self.model)

    def blocks(self) -> list[nn.Module]:
        return list(self.net.transformer.resblocks)

    def head_shape(self, layer: int) -> tuple[int, int]:
        attention = self.net.transformer.resblocks[layer].attn
        return attention.num_heads, attention.head_dim

    def grid_of(self, height: int, width: int) -> tuple[int, int]:
        """(h, w) of the tokens for a view of that size.

        Raises:
            UserError: the position table was made for another size.
        """
        size = (self.input_size, self.input_size) if self.input_size else (height, width)
        built = tuple(self.net.image_size)
        if size != built:
            raise UserError(
                "teacher.input_size",
                size,
                expected=f"the size {self.model} is built for, {built}",
                fix=f"set input_size={built[0]} to resize the view for this network, or "
                f"img_size={size if size[0] != size[1] else size[0]} to resize its position table",
            )
        return tuple(self.net.grid_size)

    def settings_for(self, grid: tuple[int, int]) -> dict[str, int]:
        settings = super().settings_for(grid)
        return settings | {"img_size": settings["input_size"]} if self.resized else settings

    @torch.no_grad()
    def targets(self, images: Tensor, needs: Needs) -> TeacherOutput:
        """Tokens (B, L, D) and CLS (B, D) of the blocks asked for, and q, k, v, attention.

        Raises:
            UserError: the view's size does not fit, or there is no such block.
        """
        grid = self.grid_of(*images.shape[2:])
        depth = len(self.net.transformer.resblocks)
        layers = asked_blocks(needs.layers, depth, self.model)
        tapped = asked_blocks(needs.qkv, depth, self.model)
        last = {depth - 1} if needs.attention else set()
        run = sorted({*layers, *tapped, *last})
        if not run:
            return TeacherOutput(grid)
        attentions = {i: self.net.transformer.resblocks[i].attn for i in {*tapped, *last}}
        with recorded_inputs(attentions) as calls:
            outputs = self.net.forward_intermediates(
                images,
                indices=run,
                stop_early=True,
                intermediates_only=True,
                output_fmt="NLC",
                output_extra_tokens=True,
            )
        prefixes, patches = outputs["image_intermediates_prefix"], outputs["image_intermediates"]
        pairs = zip(prefixes, patches, strict=True)
        sequences = {i: torch.cat(pair, dim=1) for i, pair in zip(run, pairs, strict=True)}
        qkv, attention = {}, None
        for index, module in attentions.items():
            heads = self._split_heads(module, calls[index][0])
            if index in last:
                attention = cls_attention(heads[0], heads[1], prefix=1)
            qkv |= dict.fromkeys(tapped.get(index, ()), heads)
        sequences = {index: self._project(sequences[index]) for index in layers}
        return gather(grid, layers, sequences, 1, True, qkv=qkv, attention=attention)

    def _project(self, x: Tensor) -> Tensor:
        if self.output == "tokens":
            return x
        x = self.net.ln_post(x)
        return x @ self.net.proj if self.output == "proj" else x

    def _split_heads(self, module: nn.Module, x: Tensor) -> QKV:
        """Query, key and value, each (B, heads, 1 + L, d)."""
        if getattr(module, "logit_scale", None) is not None:
            raise UserError(
                "teacher.model", self.model, expected="a tower without scaled cosine attention"
            )
        parts = F.linear(x, module.in_proj_weight, module.in_proj_bias).chunk(3, dim=-1)
        q, k, v = (part.unflatten(-1, (module.num_heads, -1)).transpose(1, 2) for part in parts)
        norms = [getattr(module, name, None) or nn.Identity() for name in ("ln_q", "ln_k")]
        return norms[0](q), norms[1](k), v
