"""Makes any pretraining config small, with the same types in every slot."""

from __future__ import annotations

import copy
from typing import Any

from mmengine.config import Config, ConfigDict

from mimseg.engine.stages import stage_configs
from mimseg.errors import UserError
from mimseg.rehearse.size import Size
from mimseg.rehearse.teachers import Shrunk, parameter, shrink_teacher
from mimseg.rehearse.vit import Student, shrink_vit

BATCH = 8  # images a step; a run of its own may ask for more


def shrink(
    cfg: Config, width: int = 48, depth: int = 6, img_size: int = 64, patch_size: int = 8
) -> None:
    """Make a pretraining config small, in place.

    Every slot keeps its type and whatever does not cost: ratios, relations, normalizations, losses.
    Student and teachers get `width` and `depth`, random weights, and grids that match; indices of
    blocks and counts of heads follow in proportion. A config with `stages` keeps them, each small.

    Args:
        cfg: a whole config of `mimseg.MaskedImageModeling`, or of another model with a
            `mimseg.ViT` as its backbone and one head.
        width, depth, img_size, patch_size: see `Size`.

    Raises:
        UserError: the backbone is no `mimseg.ViT`, or the size is impossible.
    """
    size = Size(width, depth, img_size, patch_size)
    stages = [dict(stage) for stage in cfg.get("stages") or ()]
    whole = _stage_configs(cfg) if stages else []
    _shrink_one(cfg, size, handed=None)
    for number, (stage, own) in enumerate(zip(stages, whole, strict=True)):
        key = stage.get("teacher_key", "model.teacher")
        _shrink_one(own, size, handed=key.rpartition(".")[2] if stage.get("teacher") else None)
        kept = {name: value for name, value in stage.items() if name != "options"}
        if kept.get("teacher_options"):  # they win over what the stage's config says
            small = _at(own, key)
            kept["teacher_options"] = {k: small[k] for k in kept["teacher_options"] if k in small}
        changed = {name.split(".")[0] for name in stage.get("options", {})}
        cfg.stages[number] = ConfigDict(kept, options=_options(own, changed))


def _at(cfg: Config, key: str) -> Any:
    node: Any = cfg
    for part in key.split("."):
        node = node[part]
    return node


def _stage_configs(cfg: Config) -> list[Config]:
    own = copy.deepcopy(cfg)
    own.work_dir = own.get("work_dir") or "work_dirs"
    return list(stage_configs(own).values())


def _options(own: Config, changed: set[str]) -> dict[str, Any]:
    """Settings that replace whole parts of the config by a stage's own."""
    options = {}
    for name in sorted(changed | {"model", "train_dataloader"} & set(own)):
        value = own[name]
        options[name] = {**value, "_delete_": True} if isinstance(value, dict) else value
    return options


def _shrink_one(cfg: Config, size: Size, handed: str | None) -> None:
    """Shrink a config without regard to its stages.

    Args:
        handed: name of the teacher that an earlier stage hands over, if one does.
    """
    model = cfg.model
    student = _shrink_student(model.backbone, size)
    if "neck" not in model and "in_channels" in (model.get("head") or {}):
        model.head.in_channels = size.width
    given = dict(model.get("teachers") or {})
    if model.get("teacher"):
        given["teacher"] = model.teacher
    found = {
        name: shrink_teacher(teacher, size, student, name == handed)
        for name, teacher in given.items()
    }
    for objective in model.get("objectives") or [model]:
        name = objective.get("teacher")
        teacher = found.get(name if isinstance(name, str) else "teacher")
        if teacher is not None:
            _shrink_objective(objective, size, student, teacher)
    if (model.get("masking") or {}).get("max_patches"):
        share = model.masking.max_patches * size.grid**2 / student.grid**2
        model.masking.max_patches = max(1, round(share))
    loader = cfg.get("train_dataloader")
    if loader:
        loader.update(batch_size=BATCH, num_workers=0, persistent_workers=False)
        for key in ("prefetch_factor", "pin_memory"):
            loader.pop(key, None)
        _shrink_views(loader.dataset, size, given, found)


def _shrink_student(backbone: ConfigDict, size: Size) -> Student:
    if backbone.get("type") != "mimseg.ViT":
        raise UserError("backbone.type", backbone.get("type"), expected="'mimseg.ViT' to shrink")
    return shrink_vit(backbone, size, size.patch_size, size.img_size)


def _shrink_objective(objective: dict, size: Size, student: Student, teacher: Shrunk) -> None:
    normalization, head = objective.get("normalization") or {}, objective["head"]
    if normalization.get("layers"):
        normalization["layers"] = size.layers(normalization["layers"], teacher.depth)
    if normalization.get("layer") is not None:
        normalization["layer"] = size.layer(normalization["layer"], teacher.depth)
    if normalization.get("num_heads"):
        normalization["num_heads"] = size.heads(normalization["num_heads"])
    for key, depth in (
        ("in_layer", student.depth),
        ("student_layer", student.depth),
        ("teacher_layer", teacher.depth),
    ):
        if key in head:
            head[key] = size.layer(head[key], depth)
    for key in ("in_channels", "out_channels"):
        head.pop(key, None)  # the algorithm's to fill in
    width = size.width
    if parameter(head, "embed_dims"):
        head["embed_dims"] = width = size.decoder
    if parameter(head, "depth"):
        head["depth"] = min(2, _setting(head, "depth"))
    if parameter(head, "num_heads") and _setting(head, "num_heads"):
        head["num_heads"] = size.heads(_setting(head, "num_heads"), width)
    if head.get("hidden"):
        head["hidden"] = max(4, head["hidden"] * size.width // student.width)
    if isinstance(head.get("drop_path_rate"), (list, tuple)):
        head["drop_path_rate"] = head["drop_path_rate"][: head["depth"]]


def _setting(cfg: dict, name: str) -> Any:
    return cfg[name] if name in cfg else parameter(cfg, name).default


def _shrink_views(
    dataset: Any, size: Size, teachers: dict[str, dict], found: dict[str, Shrunk]
) -> None:
    """Bring the views to the networks' sizes; a teacher that would see another one resizes it."""
    views: dict[str, int] = {}
    for transform in _of_type(dataset, "mimseg.MIMViews"):
        for name, view in transform.items():
            if isinstance(view, dict) and "size" in view:
                sides = [found[t].side for t in found if _view(teachers[t]) == name]
                view["size"] = size.img_size if name == "student" else (sides + [size.img_size])[0]
                views[name] = view["size"]
    for name, teacher in teachers.items():
        seen = views.get(_view(teacher), views.get("teacher", size.img_size))
        side = found[name].side
        if side != seen or side != size.img_size or teacher.get("input_size"):
            teacher["input_size"] = side


def _view(teacher: dict) -> str:
    return teacher.get("view", "teacher")


def _of_type(node: Any, kind: str) -> list[dict]:
    """All dicts of a type below a config node."""
    if isinstance(node, dict):
        own = [node] if node.get("type") == kind else []
        return own + [found for value in node.values() for found in _of_type(value, kind)]
    if isinstance(node, (list, tuple)):
        return [found for value in node for found in _of_type(value, kind)]
    return []
