"""Checks at full size what a small network cannot show: parts that fit, and files that load."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial

import torch
from mmengine.config import Config
from mmengine.registry import MODELS as ROOT
from mmengine.registry import DefaultScope
from torch import Tensor, nn

from mimseg.checkpoints.files import read_checkpoint, resolve_checkpoint
from mimseg.checkpoints.loader import load_backbone, load_start, weights_in
from mimseg.engine.stages import check_model
from mimseg.errors import UserError
from mimseg.registry import MODELS

HEADS = ("head", "decode_head", "auxiliary_head", "rpn_head", "bbox_head")  # on maps alone


def check_parts(cfg: Config) -> str:
    """Build the model without memory and run what follows the backbone; returns what was seen.

    Raises:
        UserError: a part does not build, or the channels of two do not fit.
    """
    model = check_model(cfg).eval()
    height, width = _sides(cfg.model.backbone.get("img_size", 224))
    images = torch.empty(1, 3, height, width, device="meta")
    entered: list[str] = []  # layers in the order of their calls, each with its input's shape
    try:
        with torch.no_grad(), _noted(model, entered):
            features = model.extract_feat(images)
            for name in HEADS:
                for part in _parts(model, name):
                    part(features)
    except (NotImplementedError, RuntimeError, TypeError) as error:
        if not isinstance(error, RuntimeError) or "meta" in str(error) or not entered:
            return f"networks: they build at full size; not checked: their channels ({error})"
        raise UserError(
            "model",
            cfg.model.get("type"),
            expected=f"parts that fit one another at full size; {entered[-1]} ({error})",
            fix="compare the channels of backbone, neck and heads",
        ) from error
    return "networks: they build at full size, and their channels fit"


@contextmanager
def _noted(model: nn.Module, entered: list[str]) -> Iterator[None]:
    """Within the block, note each layer that is called."""

    def note(name: str, module: nn.Module, inputs: tuple) -> None:
        shape = list(inputs[0].shape) if inputs and isinstance(inputs[0], Tensor) else "its input"
        entered.append(f"{name}, {module}, does not take {shape}".replace("\n", ""))

    leaves = [(n, m) for n, m in model.named_modules() if not list(m.children())]
    handles = [leaf.register_forward_pre_hook(partial(note, name)) for name, leaf in leaves]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _sides(img_size: int | tuple[int, int]) -> tuple[int, int]:
    return (img_size, img_size) if isinstance(img_size, int) else tuple(img_size)


def _parts(model: nn.Module, name: str) -> Iterator[nn.Module]:
    part = getattr(model, name, None)
    yield from part if isinstance(part, nn.ModuleList) else [part] if part is not None else []


def check_backbone(cfg: Config) -> str | None:
    """Load the checkpoint that the backbone starts with, if any, into a backbone of full size.

    Raises:
        UserError: see `load_backbone`.
    """
    start = cfg.model.backbone.get("init_cfg") or {}
    if not start.get("checkpoint"):
        return None
    report = load_backbone(
        MODELS.build({**cfg.model.backbone, "init_cfg": None}),
        start["checkpoint"],
        trust=start.get("trust", False),
    )
    counts = [f"{len(report.matched)} tensors loaded"]
    for name in ("resized", "missing", "unexpected"):
        if names := getattr(report, name):
            counts.append(f"{len(names)} {name}")
    return f"backbone: {report.source} fits at full size: {', '.join(counts)}"


def check_start(cfg: Config, trust: bool) -> str | None:
    """Load the trained model that `load_from` names, if any, into one of full size.

    Raises:
        UserError: see `load_start`.
    """
    if not cfg.get("load_from"):
        return None
    path = str(resolve_checkpoint(cfg.load_from, "load_from"))
    weights = weights_in(read_checkpoint(path, trust, key="load_from"), path, "load_from")
    load_start(_build(cfg), weights, path, "load_from")
    return f"model: {path} (load_from) fits at full size"


def check_teachers(cfg: Config, handed: str | None) -> Iterator[str]:
    """Load each teacher that comes from a file at full size; name those that would be fetched.

    Args:
        cfg: a config without stages.
        handed: the teacher that an earlier stage hands over, which is not there yet.

    Raises:
        UserError: there is no such file, or it does not fit.
    """
    teachers = dict(cfg.model.get("teachers") or {})
    if cfg.model.get("teacher"):
        teachers["teacher"] = cfg.model.teacher
    for name, teacher in teachers.items():
        source = str(teacher.get("weights") or teacher.get("init") or "")
        if name == handed or source in ("", "random", "student"):
            continue
        if source.partition(":")[0] == "hub" or "://" in source:
            yield f"not checked: the weights of {_named(name)}, {source}; training fetches them"
            continue
        _load_teacher(teacher, cfg.model.backbone)
        yield f"{_named(name)}: {source} fits at full size"


def _named(name: str) -> str:
    return "teacher" if name == "teacher" else f"teacher {name!r}"


def _load_teacher(cfg: Mapping, backbone: Mapping) -> None:
    student, teacher = MODELS.build(dict(backbone)), MODELS.build(dict(cfg))
    teacher.bind(student)
    teacher.load(student)


def _build(cfg: Config) -> nn.Module:
    """A config's model with weights as its parts' constructors leave them."""
    DefaultScope.get_instance(f"rehearsal {id(cfg)}", scope_name=cfg.default_scope)
    with ROOT.switch_scope_and_registry(cfg.default_scope) as registry:
        return registry.build(copy.deepcopy(cfg.model))
