"""Makes the slots of a pretraining config small, with the same types in each."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from mmengine.config import Config

from mimseg.rehearse.size import Size
from mimseg.rehearse.teachers import SmallTeacher, parameter, shrink_teacher
from mimseg.rehearse.vit import Student, shrink_vit


def shrink_slots(cfg: Config, size: Size, handed: str | None) -> None:
    """Make student, teachers, heads and views of a pretraining config small, in place.

    Every slot keeps its type and whatever does not cost: ratios, relations, normalizations, losses.
    Student and teachers get the size's width and depth, random weights, and grids that match;
    indices of blocks and counts of heads follow in proportion.

    Args:
        cfg: a whole config; its stages are left alone.
        size: the small size.
        handed: name of the teacher that an earlier stage hands over, if one does.
    """
    model = cfg.model
    student = shrink_vit(model.backbone, size, size.patch_size, size.img_size)
    teachers = dict(model.get("teachers") or {})
    if model.get("teacher"):
        teachers["teacher"] = model.teacher
    small = {
        name: shrink_teacher(teacher, size, student, name == handed)
        for name, teacher in teachers.items()
    }
    for objective in model.get("objectives") or [model]:
        name = objective.get("teacher")
        teacher = small.get(name if isinstance(name, str) else "teacher")
        if teacher is not None:
            _shrink_objective(objective, size, student, teacher)
    if (model.get("masking") or {}).get("max_patches"):
        share = model.masking.max_patches * size.grid**2 / student.grid**2
        model.masking.max_patches = max(1, round(share))
    if cfg.get("train_dataloader"):
        _shrink_views(cfg.train_dataloader.dataset, size, teachers, small)


def _shrink_objective(objective: dict, size: Size, student: Student, teacher: SmallTeacher) -> None:
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
        head.pop(key, None)  # the algorithm fills them in
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
    dataset: Any, size: Size, teachers: dict[str, dict], small: dict[str, SmallTeacher]
) -> None:
    """Bring the views to the networks' sizes; a teacher that would see another one resizes it."""
    views: dict[str, int] = {}
    for transform in _of_type(dataset, "mimseg.MIMViews"):
        for name, view in transform.items():
            if isinstance(view, dict) and "size" in view:
                sides = [small[t].side for t in small if _view(teachers[t]) == name]
                view["size"] = size.img_size if name == "student" else (sides + [size.img_size])[0]
                views[name] = view["size"]
    for name, teacher in teachers.items():
        seen = views.get(_view(teacher), views.get("teacher", size.img_size))
        side = small[name].side
        if side != seen or side != size.img_size or teacher.get("input_size"):
            teacher["input_size"] = side


def _view(teacher: dict) -> str:
    return teacher.get("view", "teacher")


def _of_type(node: Any, kind: str) -> Iterator[dict]:
    """All dicts of a type below a config node."""
    if isinstance(node, dict):
        if node.get("type") == kind:
            yield node
        node = list(node.values())
    for value in node if isinstance(node, (list, tuple)) else ():
        yield from _of_type(value, kind)
