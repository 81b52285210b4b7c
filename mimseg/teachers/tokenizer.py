"""Teaches by visual tokenizers (BEiT, BEiT v2)."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn

from mimseg.errors import UserError
from mimseg.outputs import Needs, TeacherOutput
from mimseg.registry import MODELS
from mimseg.teachers.base import Teacher
from mimseg.teachers.download import downloading, require_download
from mimseg.teachers.weights import (
    check_weights,
    load_exact,
    read_weights,
    require_file,
    strip_prefix,
)


@dataclass(frozen=True)
class _Kind:
    """What is particular to one of mmpretrain's tokenizers.

    Args:
        mean, std: its pixel mapping, as a normalization of RGB in [0, 1].
        vocabulary: the config key of the vocabulary's size.
        forced: settings that keep the constructor from drawing on data or a fixed device.
        encoder: defaults of its `encoder_config`, for which mmpretrain has none that fit.
        may_lack: tensors that a file may lack: bookkeeping of the tokenizer's own training.
    """

    mean: Sequence[float]
    std: Sequence[float]
    vocabulary: str
    forced: dict
    encoder: dict = field(default_factory=dict)
    may_lack: tuple[str, ...] = ()


_KINDS = {
    # the pixels of DALL-E's code, 0.8 * x + 0.1
    "DALL-E": _Kind((-0.125,) * 3, (1.25,) * 3, "vocab_size", dict(device=None)),
    "VQKD": _Kind(
        (0.5,) * 3,
        (0.5,) * 3,
        "num_embed",
        dict(quantize_kmeans_init=False),
        encoder=dict(
            out_type="featmap",
            final_norm=True,
            use_abs_pos_emb=True,
            use_rel_pos_bias=False,
            use_shared_rel_pos_bias=False,
            layer_scale_init_value=0.0,
        ),
        may_lack=("quantize.cluster_size", "quantize.embedding.initted"),
    ),
}
_VOCABULARY = 8192  # of both, unless the config says otherwise


@MODELS.register_module()
class TokenizerTeacher(Teacher):
    """A tokenizer of mmpretrain: the id of each patch in a vocabulary of visual tokens.

    Two kinds: the encoder of DALL-E's discrete VAE (BEiT, arXiv 2106.08254, section 2.2), with 8
    pixels per token, so 112 px for a 14x14 grid, and VQ-KD (BEiT v2, arXiv 2208.06366, section
    2.2). Use it with `normalization=dict(type='mimseg.NoNormalization', ids=True)`;
    `out_channels` is the size of the vocabulary.

    Args:
        tokenizer: config of the module: type "mmpretrain.DALL-E" or "mmpretrain.VQKD" and its
            options. VQKD's `encoder_config` need only say what differs from BEiT v2's base.
        weights: "random" (drawn when the model is initialized, and saved in its checkpoints), a
            file, or an address that starts with http:// or https:// and is read then as well.
        trust: unpickle whatever the file holds. Only for files whose origin you know.
        mean, std: RGB normalization; None takes the tokenizer's own pixel mapping.

    Raises:
        UserError: another type, no weights, a size that does not give the student's grid; on
            loading, a file that is missing, incomplete or of another shape.
    """

    offers = frozenset({"ids"})

    def __init__(
        self,
        tokenizer: dict,
        weights: str | None = None,
        trust: bool = False,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        **kwargs,
    ) -> None:
        name = str(tokenizer.get("type")).removeprefix("mmpretrain.")
        if name not in _KINDS:
            known = " or ".join(repr(f"mmpretrain.{kind}") for kind in _KINDS)
            raise UserError("teacher.tokenizer.type", tokenizer.get("type"), expected=known)
        if tokenizer.get("init_cfg"):
            raise UserError(
                "teacher.tokenizer.init_cfg",
                tokenizer["init_cfg"],
                expected="nothing: it would load where mmengine pleases",
                fix="teacher.weights=FILE",
            )
        kind = _KINDS[name]
        super().__init__(mean=mean or kind.mean, std=std or kind.std, **kwargs)
        self.kind, self.trust = kind, trust
        self.weights = check_weights(weights, "an https:// address")
        self.from_hub = self.weights.startswith(("http://", "https://"))
        cfg = copy.deepcopy(dict(tokenizer)) | kind.forced | dict(type=f"mmpretrain.{name}")
        if kind.encoder:
            cfg["encoder_config"] = kind.encoder | dict(cfg.get("encoder_config", {}))
        self.tokenizer = MODELS.build(cfg)
        self.out_channels = cfg.get(kind.vocabulary, _VOCABULARY)
        self.stride = 8 if name == "DALL-E" else cfg["encoder_config"].get("patch_size", 16)
        self.saved = self.weights == "random"
        self.sha256: str | None = None

    def bind(self, student: nn.Module) -> None:
        side = self.input_size
        if side and (side // self.stride,) * 2 != student.base_grid:
            sizes = {n * self.stride for n in student.base_grid}
            raise UserError(
                "teacher.input_size",
                side,
                expected=f"a size that gives the student's grid {student.base_grid}, at "
                f"{self.stride} pixels per token",
                fix=f"teacher.input_size={sizes.pop()}" if len(sizes) == 1 else "a square student",
            )

    def require_source(self) -> None:
        if self.from_hub:
            require_download(self.weights, self.weights)
        elif not self.saved:
            require_file(self.weights)

    def load(self, student: nn.Module) -> None:
        if self.saved:
            self._draw()
            return
        path = _fetch(self.weights) if self.from_hub else self.weights
        state, digest = read_weights(path, self.trust)
        present = self.tokenizer.state_dict()
        state = {key: present[key] for key in self.kind.may_lack} | strip_prefix(state, present)
        try:
            load_exact(self.tokenizer, state, path, type(self.tokenizer).__name__)
        except UserError as error:
            fix = "set teacher.tokenizer to what the file was made with"
            raise UserError(error.key, error.value, expected=error.expected, fix=fix) from error
        self.sha256 = digest

    @torch.no_grad()
    def _draw(self) -> None:
        """Draw every weight: mmpretrain draws some in the constructor, some later."""
        for module in self.tokenizer.modules():
            if hasattr(module, "reset_parameters"):
                module.reset_parameters()
        for name, tensor in self.tokenizer.named_parameters():
            kind = name.rpartition(".")[2]
            if kind == "w":  # DALL-E's convolutions
                tensor.normal_(std=tensor[0].numel() ** -0.5)
            elif kind == "b":
                tensor.zero_()
            elif kind in ("cls_token", "pos_embed"):
                nn.init.trunc_normal_(tensor, std=0.02)
            elif name == "quantize.embedding.weight":
                tensor.copy_(nn.functional.normalize(tensor.normal_(), dim=-1))

    def fingerprint(self) -> str | None:
        return self.sha256

    @torch.no_grad()
    def targets(self, images: Tensor, needs: Needs) -> TeacherOutput:
        """Ids (B, L) and nothing else."""
        ids = (
            self._nearest(images)
            if hasattr(self.tokenizer, "quantize")
            else self._likeliest(images)
        )
        return TeacherOutput((ids.shape[1], ids.shape[2]), ids=ids.flatten(1))

    def _likeliest(self, images: Tensor) -> Tensor:
        """The vocabulary's likeliest entries, (B, h, w)."""
        with torch.autocast(images.device.type, enabled=False):  # it picks its precision itself
            return self.tokenizer(images.float()).argmax(1)

    def _nearest(self, images: Tensor) -> Tensor:
        """The codebook's nearest entries (arXiv 2208.06366, equation 1), (B, h, w).

        mmpretrain's own lookup gives the same ids, but takes square grids only, holds a one-hot
        matrix of all tokens by the whole vocabulary, and counts the codes across ranks each step.
        """
        features = self.tokenizer.encoder(images)[0].permute(0, 2, 3, 1)
        with torch.autocast(images.device.type, enabled=False):
            z = nn.functional.normalize(self.tokenizer.encode_task_layer(features.float()), dim=-1)
            codes = self.tokenizer.quantize.embedding.weight
            distance = z.square().sum(-1, keepdim=True) + codes.square().sum(1) - 2 * z @ codes.T
        return distance.argmin(-1)


def _fetch(address: str) -> str:
    """A file from the network, kept in torch's cache."""
    path = Path(torch.hub.get_dir()) / "checkpoints" / address.rpartition("/")[2]
    with downloading(address, address):
        if not path.is_file():
            path.parent.mkdir(parents=True, exist_ok=True)
            torch.hub.download_url_to_file(address, str(path), progress=False)
    return str(path)
