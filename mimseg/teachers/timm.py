"""Teaches by any model of timm."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path

import timm
import torch
from torch import Tensor, nn

from mimseg.errors import UserError
from mimseg.outputs import Needs, TeacherOutput
from mimseg.registry import MODELS
from mimseg.teachers import weights as hub
from mimseg.teachers.base import IMAGENET_MEAN, IMAGENET_STD, Teacher
from mimseg.teachers.download import downloading, require_download
from mimseg.teachers.taps import asked_blocks, cls_attention, gather, recorded_inputs
from mimseg.teachers.timm_attention import attention_bias, split_heads
from mimseg.teachers.timm_build import build_options, convert, create, has_blocks, wrong_size


@MODELS.register_module()
class TimmTeacher(Teacher):
    """A timm model as the teacher: a ViT by blocks (DINO, DeiT, MAE, ...) or a CNN by stages.

    Layers of a ViT are block indices. Registers and distillation tokens are dropped. A CNN, or any
    network with stages, has one layer, -1: the map of the chosen stage, a token per position.

    Args:
        model: timm's name, with a tag for the weights ("vit_base_patch16_224.dino").
        weights: "hub" downloads when weights are initialized, "random" draws, anything else is a
            local file (.safetensors or .pth). There is no default: a random network by oversight
            would train as well.
        model_kwargs: options of timm.create_model, for odd sizes (embed_dim, depth, img_size). With
            dynamic_img_size=True any view whose sides the patch divides is taken.
        final_norm: apply the network's last norm to the last block's tokens.
        stage: stage of a CNN, 1 to 4 as in ResNet: stride 4, 8, 16, 32. None takes the last.
            ResNet-50 has a 14x14 grid in stage 3 at 224 px, and in stage 4 at 448 px.
        trust: unpickle code in the weights file.
        mean, std: None takes those that the model was trained with.
        input_size: see `Teacher`. Position tables are made for it, or for model_kwargs' img_size.

    Raises:
        UserError: a model, option, stage or size that does not exist or does not fit.
    """

    def __init__(
        self,
        model: str,
        weights: str | Path | None = None,
        model_kwargs: dict | None = None,
        final_norm: bool = False,
        stage: int | None = None,
        trust: bool = False,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        input_size: int | None = None,
        **kwargs,
    ) -> None:
        self.weights = hub.check_weights(weights, "hub")
        options = build_options(model, dict(model_kwargs or {}), input_size)
        net = create(model, {"num_classes": 0} | options)
        cfg = net.pretrained_cfg
        mean = mean or cfg.get("mean") or IMAGENET_MEAN
        std = std or cfg.get("std") or IMAGENET_STD
        super().__init__(mean=mean, std=std, input_size=input_size, **kwargs)
        self.model, self.options, self.trust = model, options, trust
        self.net, self.final_norm, self.stage = net, final_norm, stage
        self.saved = self.weights == "random"
        self.sha256: str | None = None
        self._grids: dict[tuple[int, int], tuple[int, int]] = {}
        if self.weights == "hub" and not (cfg.get("hf_hub_id") or cfg.get("url")):
            raise UserError(hub.KEY, "hub", expected=f"a file: timm offers no weights of {model}")
        self.with_blocks = has_blocks(net)
        self.offers = frozenset({"layers"})
        if self.with_blocks:
            self._check_vit()
        else:
            self._choose_stage()

    def _check_vit(self) -> None:
        if self.stage is not None:
            raise UserError(
                "teacher.stage",
                self.stage,
                expected=f"a CNN; {self.model} has blocks",
                fix="leave it out",
            )
        if self.final_norm and isinstance(self.net.norm, nn.Identity):
            raise UserError(
                "teacher.final_norm",
                True,
                expected=f"a model with a last norm over tokens; {self.model} pools first",
                fix="leave it out, or normalize the targets",
            )
        self.prefix = self.net.num_prefix_tokens
        self.with_cls = getattr(self.net, "cls_token", None) is not None
        self.offers |= {"qkv", "attention", "cls"} if self.with_cls else {"qkv"}
        self.out_channels = self.net.embed_dim
        self.stride = self.net.patch_embed.patch_size[0]
        if self.input_size:
            self.grid_of(self.input_size, self.input_size)

    def _choose_stage(self) -> None:
        if self.final_norm:
            raise UserError("teacher.final_norm", True, expected=f"a ViT; {self.model} has stages")
        info = list(getattr(self.net, "feature_info", []))
        strides = [item["reduction"] for item in info]
        if len(set(strides)) < 2 or not hasattr(self.net, "forward_intermediates"):
            raise UserError(
                "teacher.model",
                self.model,
                expected="a ViT with a CLS and patch tokens, or a CNN in timm",
            )
        before = sum(stride < 4 for stride in strides)  # the stem's features
        last = len(info) - before
        stage = last if self.stage is None else self.stage
        if not 1 <= stage <= last:
            raise UserError(
                "teacher.stage", stage, expected=f"a stage of {self.model}, 1 to {last}"
            )
        self._feature = before + stage - 1
        self.out_channels = info[self._feature]["num_chs"]
        self.stride = info[self._feature]["reduction"]

    # ------------------------------------------------------------------ weights

    def require_source(self) -> None:
        if self.weights == "hub":
            require_download(self.weights, self._place())
        elif self.weights != "random":
            hub.require_file(self.weights)

    def _place(self) -> str:
        """Where timm downloads from."""
        cfg = self.net.pretrained_cfg
        return str(cfg.get("hf_hub_id") or cfg.get("url"))

    def load(self, student: nn.Module) -> None:
        classifier = self.net.pretrained_cfg.get("classifier") or ()
        drop = (classifier,) if isinstance(classifier, str) else tuple(classifier)
        if self.weights == "random":
            fresh = create(self.model, {"num_classes": 0} | self.options)
            self.net.load_state_dict(fresh.state_dict())
        elif self.weights == "hub":
            state = self._download()
            hub.load_exact(self.net, state, "timm", self.model, drop)
            self.sha256 = hub.state_digest(self.net.state_dict())
        else:
            tensors, digest = hub.read_weights(self.weights, self.trust)
            state, resized = convert(self.net, tensors, self.weights, self.model)
            hub.load_exact(self.net, state, self.weights, self.model, drop, resized)
            self.sha256 = digest

    def _download(self) -> dict[str, Tensor]:
        with downloading(self.weights, self._place()):
            # with its classifier, for timm loads strictly then
            return timm.create_model(self.model, pretrained=True, **self.options).state_dict()

    def fingerprint(self) -> str | None:
        return self.sha256

    # ------------------------------------------------------------------ forward

    def grid_of(self, height: int, width: int) -> tuple[int, int]:
        """(h, w) of the tokens for a view of that size.

        Raises:
            UserError: the network does not take that size.
        """
        if self.input_size:
            height = width = self.input_size
        if not self.with_blocks:
            if (height, width) not in self._grids:
                images = torch.empty(1, 3, height, width, device="meta")
                maps = self._map(copy.deepcopy(self.net).to("meta").eval(), images)
                self._grids[height, width] = tuple(maps.shape[2:])
            return self._grids[height, width]
        embed = self.net.patch_embed
        built = tuple(embed.img_size or ())
        if getattr(self.net, "dynamic_img_size", False):
            patch = embed.patch_size
            fits = getattr(embed, "dynamic_img_pad", False)
            fits = fits or not (height % patch[0] or width % patch[1])
        else:
            fits = built == (height, width)
        if not fits:
            raise wrong_size(self.model, (height, width), built)
        return tuple(embed.dynamic_feat_size((height, width)))

    def settings_for(self, grid: tuple[int, int]) -> dict[str, int]:
        settings = super().settings_for(grid)
        if settings and "img_size" in self.options and not self.input_size:  # the config's
            settings["model_kwargs.img_size"] = settings["input_size"]
        return settings

    def check_layers(self, layers: frozenset[int]) -> None:
        if self.with_blocks:
            asked_blocks(layers, len(self.net.blocks), self.model)
        elif layers - {-1}:
            raise UserError(
                "normalization.layers",
                sorted(layers),
                expected=f"(-1,): {self.model} offers the one stage that teacher.stage names",
            )

    def blocks(self) -> list[nn.Module]:
        return list(self.net.blocks) if self.with_blocks else []

    def head_shape(self, layer: int) -> tuple[int, int] | None:
        if not self.with_blocks:
            return None
        block = self.net.blocks[layer]
        attention = getattr(block, "attn", block)
        if not hasattr(attention, "num_heads"):
            return None
        return attention.num_heads, getattr(
            attention, "head_dim", self.net.embed_dim // attention.num_heads
        )

    @torch.no_grad()
    def targets(self, images: Tensor, needs: Needs) -> TeacherOutput:
        """Tokens (B, L, D) and CLS (B, D) of the layers asked for, and q, k, v, attention.

        Query and key are those after their norm and before any rotation by position.

        Raises:
            UserError: the view's size does not fit, or the network lacks what is asked for.
        """
        if not self.with_blocks:
            return self._stage_output(images, needs)
        grid = self.grid_of(*images.shape[2:])
        depth = len(self.net.blocks)
        layers = asked_blocks(needs.layers, depth, self.model)
        tapped = asked_blocks(needs.qkv, depth, self.model)
        last = {depth - 1} if needs.attention else set()
        run = sorted({*layers, *tapped, *last})
        if not run:
            return TeacherOutput(grid)
        blocks = {index: self.net.blocks[index] for index in {*tapped, *last}}
        attentions = {index: getattr(block, "attn", block) for index, block in blocks.items()}
        with recorded_inputs(attentions) as calls:
            sequences = self._sequences(images, run)
        if self.final_norm and depth - 1 in sequences:
            sequences[depth - 1] = self.net.norm(sequences[depth - 1])
        qkv, attention = {}, None
        for index, module in attentions.items():
            parts = split_heads(module, calls[index][0], self.model)
            if index in last:
                bias = attention_bias(module, calls[index][1], self.model)
                attention = cls_attention(*parts[:2], self.prefix, bias)
            tokens = [0] * self.with_cls + [*range(self.prefix, parts[0].shape[2])]
            qkv |= dict.fromkeys(tapped.get(index, ()), tuple(x[:, :, tokens] for x in parts))
        return gather(
            grid, layers, sequences, self.prefix, self.with_cls, qkv=qkv, attention=attention
        )

    def _sequences(self, images: Tensor, run: list[int]) -> dict[int, Tensor]:
        """Block -> (B, prefix + L, D); no block after the last of `run` is computed."""
        options = dict(return_prefix_tokens=True, stop_early=True, intermediates_only=True)
        tokens = self.net.forward_intermediates(images, indices=run, output_fmt="NLC", **options)
        if self.prefix:
            tokens = [torch.cat([first, patches], dim=1) for patches, first in tokens]
        return dict(zip(run, tokens, strict=True))

    def _map(self, net: nn.Module, images: Tensor) -> Tensor:
        try:
            return net.forward_intermediates(
                images, indices=[self._feature], stop_early=True, intermediates_only=True
            )[0]
        except AssertionError as error:  # a Swin transformer's view of another size
            built = getattr(getattr(net, "patch_embed", None), "img_size", None) or ()
            raise wrong_size(self.model, tuple(images.shape[2:]), tuple(built)) from error

    def _stage_output(self, images: Tensor, needs: Needs) -> TeacherOutput:
        self.check("teacher", needs)
        maps = self._map(self.net, images)
        tokens = dict.fromkeys(needs.layers, maps.flatten(2).transpose(1, 2))
        return TeacherOutput(tuple(maps.shape[2:]), tokens=tokens)
