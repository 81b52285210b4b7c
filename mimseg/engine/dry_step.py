"""Runs a training step on meta tensors: its FLOPs, and the memory of the tensors in it.

Meta tensors have shapes and no memory. What hangs on values has a stand-in here: masks, which have
known counts; a detector's proposals, of which its samplers take known numbers.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from mmengine.config import Config
from torch import Tensor, nn
from torch.fx.experimental import _config as meta_config
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from mimseg.algorithms.teacher_bank import teachers_of
from mimseg.engine.synthetic import image_sizes, label_samples
from mimseg.errors import UserError
from mimseg.students.vit import ViT

STEP = "torch's counter on a train step of meta tensors"
PARTS = "torch's counter on meta tensors through backbone, neck and heads, without the losses"
MATMULS = "the backbone's matrix products alone, no patch dropped, for the step needs values"


@dataclass(frozen=True)
class StepCost:
    """What a step of one process costs.

    Args:
        flops: floating-point operations of matrix products and convolutions, a multiplication and
            an addition being two; forward and backward, teachers included.
        teacher_flops: those of the teachers.
        peak: the most bytes that the step's own tensors take at one time, images included and
            weights, gradients and the optimizer's state aside; None where the step does not run on
            meta tensors.
        method: how the FLOPs were counted.
    """

    flops: int
    teacher_flops: int
    peak: int | None
    method: str


def dry_step(model: nn.Module, cfg: Config, batch: int, half: torch.dtype | None) -> StepCost:
    """Run a training step of a model on the meta device. The model is of no other use afterwards.

    Args:
        model: of `build_on_meta`, frozen as for training.
        cfg: its config, whose images it gets.
        batch: images.
        half: the type that autocast computes in; None for float32.

    Raises:
        UserError: the step needs values, and the backbone is no ViT of ours.
    """
    model.train()
    sizes = image_sizes(cfg)
    views = {name: torch.empty(batch, 3, *size, device="meta") for name, size in sizes.items()}
    teacher_flops = 0
    try:
        if hasattr(model, "bank"):
            views.setdefault("teacher", views["student"])
            _stand_in(model, views)
            counter = FlopCounterMode(display=False)
            with counter, _meta():
                model.bank.run(views, model.teacher_needs())
            teacher_flops = counter.get_total_flops()
        loss, method = _loss(model, cfg, views, batch)
        counter = FlopCounterMode(display=False)
        with counter, _meta():
            loss().backward()
        peak = _peak(model, views, loss, half)
    except (NotImplementedError, RuntimeError) as error:
        vit = getattr(model, "backbone", None)
        if "meta" not in str(error).lower():
            raise
        if not isinstance(vit, ViT):
            expected = f"a step that runs on meta tensors, or a mimseg.ViT to count ({error})"
            raise UserError("model.backbone", type(vit).__name__, expected=expected) from error
        return StepCost(3 * batch * vit_flops(vit, sizes["student"]), 0, None, MATMULS)
    return StepCost(counter.get_total_flops(), teacher_flops, peak, method)


def vit_flops(vit: ViT, size: tuple[int, int], tokens: int | None = None) -> int:
    """FLOPs of the matrix products in a forward pass of one image.

    Args:
        vit: the network.
        size: (H, W) of the image.
        tokens: patches that the blocks see; None for all.
    """
    height, width = vit.grid_of(*size)
    side, dims = vit.patch_size, vit.embed_dims
    length = (height * width if tokens is None else tokens) + (vit.cls_token is not None)
    total = 2 * height * width * 3 * side**2 * dims
    for block in vit.layers:
        rows, seen = length, length
        if side := block.window:
            seen = side**2
            rows = -(-height // side) * -(-width // side) * seen
        hidden = block.ffn.layers[1].in_features
        total += 2 * rows * (4 * dims**2 + 2 * seen * dims) + 4 * length * dims * hidden
    return total


# ---------------------------------------------------------------------- the step


def _loss(
    model: nn.Module, cfg: Config, views: dict[str, Tensor], batch: int
) -> tuple[Callable[[], Tensor], str]:
    """What computes the step's loss, and how that is called."""
    if hasattr(model, "bank"):
        return lambda: sum(model.loss(views).values()), STEP
    images = views["student"]
    if hasattr(model, "roi_head"):
        return lambda: _detector_outputs(model, images), PARTS
    if hasattr(model, "head"):  # a classifier, whose losses look into the labels
        return lambda: model.head(model.extract_feat(images)).sum(), PARTS
    with torch.device("meta"):
        samples = label_samples(cfg, batch)

    def loss() -> Tensor:
        losses = model.loss(images, samples)
        return sum(value for name, value in losses.items() if "loss" in name)

    return loss, STEP


def _detector_outputs(model: nn.Module, images: Tensor) -> Tensor:
    """A sum over what the heads of a two-stage detector give for as many boxes as are sampled."""
    maps = model.extract_feat(images)
    total = sum(out.sum() for outputs in model.rpn_head(maps) for out in outputs)
    head, settings = model.roi_head, model.train_cfg.rcnn
    for kind in ("bbox", "mask"):
        parts = getattr(head, f"{kind}_head", None)
        if parts is None:
            continue
        extractors = getattr(head, f"{kind}_roi_extractor")
        stages = isinstance(parts, nn.ModuleList)
        for number, part in enumerate(parts if stages else [parts]):
            extractor = extractors[number] if stages else extractors
            sampler = (settings[number] if stages else settings).sampler
            boxes = len(images) * sampler.num
            if kind == "mask":  # of the boxes with an object
                boxes = int(boxes * sampler.pos_fraction)
            side = extractor.roi_layers[0].output_size
            shape = (boxes, extractor.out_channels, *side)
            regions = maps[0].new_empty(shape, dtype=torch.float32).requires_grad_()
            outputs = part(regions)
            outputs = outputs if isinstance(outputs, tuple) else (outputs,)
            total = total + sum(out.sum() for out in outputs if out is not None)
    return total


class _KnownMasks(nn.Module):
    """In the place of a mask generator: masks without values, of the known count."""

    def __init__(self, masking: nn.Module) -> None:
        super().__init__()
        self.num_masks, self.teacher, self.needs = masking.num_masks, masking.teacher, masking.needs
        self.num_masked = masking.num_masked

    def forward(self, batch: int, grid: tuple[int, int], *_: object) -> Tensor:
        shape = (batch * self.num_masks, grid[0] * grid[1])
        return torch.empty(shape, dtype=torch.bool, device="meta")


def _stand_in(model: nn.Module, views: dict[str, Tensor]) -> None:
    """Replace what would read values in a pretraining."""
    grid = model.backbone.grid(views["student"])
    length = grid[0] * grid[1]
    masked = length
    if model.masking is not None:
        masked = model.masking.num_masked(grid)
        model.masking = _KnownMasks(model.masking)
    model.backbone.training = False  # its blocks' stay; an average teacher compares weights else
    for objective in model.objectives.values():
        objective.normalization.eval()  # past the steps that its statistics are taken in
        visible = length if model.masking is None else length - masked
        counts = {"masked": masked, "visible": visible, "all": length, "cls": 0}
        count = counts[objective.positions_kind] + int(objective.with_cls)

        def positions(student: Any, count: int = count) -> Tensor:
            rows = student.tokens.shape[0]
            return torch.empty(rows * count, dtype=torch.int64, device="meta")

        objective.positions = positions


# ---------------------------------------------------------------------- meta tensors


@contextmanager
def _meta(mode: _Autocast | None = None) -> Iterator[None]:
    """Within the block, what torch does not do on meta tensors is made up for.

    Tensors are made on meta; masked selection keeps all (mmseg's accuracy); autocast, which knows
    no meta device, is `mode`'s.
    """
    autocast = torch.autocast

    def for_meta(device_type: str, *args: Any, enabled: bool = True, **kwargs: Any) -> Any:
        if device_type != "meta":
            return autocast(device_type, *args, enabled=enabled, **kwargs)
        return nullcontext() if mode is None or enabled else mode.switched_off()

    torch.autocast = for_meta
    try:
        with torch.device("meta"), meta_config.patch(meta_nonzero_assume_all_nonzero=True):
            yield
    finally:
        torch.autocast = autocast


def _peak(
    model: nn.Module, views: dict[str, Tensor], loss: Callable[[], Tensor], half: torch.dtype | None
) -> int:
    """The most bytes that tensors of a step take at one time, forward and backward."""
    for parameter in model.parameters():  # gradients are there, as with DDP, and counted elsewhere
        parameter.grad = torch.empty_like(parameter) if parameter.requires_grad else None
    weights = [*model.parameters(), *model.buffers(), *(p.grad for p in model.parameters())]
    teachers = teachers_of(model).values()
    weights += [t for teacher in teachers for t in (*teacher.parameters(), *teacher.buffers())]
    live = _Live([t for t in weights if t is not None], views.values())
    mode = _Autocast(half)
    for block in getattr(model.backbone, "layers", ()):  # computed again after backward left modes
        for name in ("forward", "forward_tapped"):
            if hasattr(block, name):
                setattr(block, name, _within(mode, getattr(block, name)))
    with live, _meta(mode), mode:
        loss().backward()
    return live.peak


def _within(mode: _Autocast, function: Callable[..., Any]) -> Callable[..., Any]:
    def call(*args: Any, **kwargs: Any) -> Any:
        with torch.device("meta"), mode:
            return function(*args, **kwargs)

    return call


class _Live(TorchDispatchMode):
    """Follows the storages that operations make, until they are gone.

    Args:
        ignored: tensors that are not counted.
        counted: tensors that are there before.
    """

    def __init__(self, ignored: Iterable[Tensor], counted: Iterable[Tensor]) -> None:
        super().__init__()
        self.now = self.peak = 0
        self._sizes = {t.untyped_storage()._cdata: 0 for t in ignored}  # meta has no data pointers
        for tensor in counted:
            self._see(tensor.untyped_storage())

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        outputs = func(*args, **(kwargs or {}))
        for output in tree_leaves(outputs):
            if isinstance(output, Tensor):
                self._see(output.untyped_storage())
        return outputs

    def _see(self, storage: torch.UntypedStorage) -> None:
        key = storage._cdata
        if key not in self._sizes:
            self._sizes[key] = storage.nbytes()
            self.now += storage.nbytes()
            self.peak = max(self.peak, self.now)
            weakref.finalize(storage, self._forget, key)

    def _forget(self, key: int) -> None:
        self.now -= self._sizes.pop(key)


class _FusedAttention(torch.autograd.Function):
    """Makes and keeps what a fused kernel does: no weights of tokens by tokens."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None) -> Tensor:
        """(B, heads, L, d) -> the same, laid out as (B, L, heads, d)."""
        out = q.new_empty(q.shape[0], q.shape[2], q.shape[1], v.shape[3]).transpose(1, 2)
        sums = q.new_empty(q.shape[:3], dtype=torch.float32)
        ctx.save_for_backward(q, k, v, bias, out, sums)
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of the four, without values."""
        parts = zip(ctx.saved_tensors[:4], ctx.needs_input_grad, strict=True)
        return tuple(torch.empty_like(part) if needed else None for part, needed in parts)


_HALF = {
    *(F.linear, F.conv1d, F.conv2d, F.conv3d, F.conv_transpose2d, F.scaled_dot_product_attention),
    *(torch.matmul, torch.bmm, torch.mm, torch.addmm, torch.baddbmm),
    *(Tensor.matmul, Tensor.__matmul__, Tensor.__rmatmul__, Tensor.bmm, Tensor.mm),
}
_FULL = {F.cross_entropy, F.log_softmax, F.softmax, F.layer_norm}


class _Autocast(TorchFunctionMode):
    """Autocast and fused attention for meta tensors, which torch sends the plain way.

    Args:
        half: the type for matrix products and convolutions; None for all in float32.
    """

    def __init__(self, half: torch.dtype | None) -> None:
        super().__init__()
        self.half, self.on = half, True
        self._weights: dict[Tensor, Tensor] = {}  # cast once, as autocast does

    @contextmanager
    def switched_off(self) -> Iterator[None]:
        """Within the block, in the tensors' own types."""
        self.on, before = False, self.on
        try:
            yield
        finally:
            self.on = before

    def __torch_function__(
        self, func: Any, types: Any, args: tuple = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if self.half is not None and self.on and (func in _HALF or func in _FULL):
            to = self.half if func in _HALF else torch.float32
            args = tuple(self._cast(value, to) for value in args)
            kwargs = {key: self._cast(value, to) for key, value in kwargs.items()}
        if func is F.scaled_dot_product_attention:
            q, k, v, *rest = args
            return _FusedAttention.apply(q, k, v, rest[0] if rest else kwargs.get("attn_mask"))
        return func(*args, **kwargs)

    def _cast(self, value: Any, to: torch.dtype) -> Any:
        if not isinstance(value, Tensor) or not value.is_floating_point() or value.dtype == to:
            return value
        if not (value.is_leaf and value.requires_grad):
            return value.to(to)
        if value not in self._weights:
            self._weights[value] = value.to(to)
        return self._weights[value]
