"""Builds and loads teachers without an algorithm."""

from __future__ import annotations

import ast
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from torch import nn

from mimseg.engine.build_errors import report_build_errors
from mimseg.engine.prepare import check_types
from mimseg.errors import UserError
from mimseg.recipes.configs import find_config
from mimseg.registry import MODELS
from mimseg.teachers.base import Teacher

FORM = "CONFIG or NAME=mimseg.TYPE,KEY=VALUE,..."


class NoStudent(nn.Module):
    """A stand-in for the student that a teacher is bound to: it has a patch size and no more.

    Raises:
        UserError: a teacher asks for anything else, because it takes its shape or weights from the
            student.
    """

    patch_size = 16

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        raise UserError(
            "student",
            None,
            expected=f"a student, whose {name} this teacher takes",
            fix="add student=dict(type='mimseg.ViT', ...) to the config, or a backbone to the "
            "teacher",
        )


def read_teachers(sources: Sequence[str]) -> tuple[dict[str, dict], dict | None]:
    """The teachers' configs by name, and the student's if a config file gives one.

    Args:
        sources: config files, or names of shipped ones, with
            `teachers = dict(name=dict(type=...), ...)` and optionally `student`, and single
            teachers as NAME=mimseg.TYPE,KEY=VALUE,...

    Raises:
        UserError: a file that is missing or has no teachers, or a name that comes twice.
    """
    teachers: dict[str, dict] = {}
    student = None
    for source in sources:
        name, equals, options = source.partition("=")
        if equals and not Path(source).is_file():
            entries = {name: _parse(source, options)}
        else:
            cfg = _load(source)
            entries, student = dict(cfg["teachers"]), cfg.get("student", student)
        for name, entry in entries.items():
            key = f"teachers.{name}"
            if not re.fullmatch(r"\w[\w.+-]*", name):  # it becomes a file's name
                raise UserError("teachers", name, expected="a name of letters, digits and . + - _")
            if name in teachers:
                raise UserError(
                    "--teachers", name, expected="a name for each teacher", fix="rename one"
                )
            if not isinstance(entry, dict) or "type" not in entry:
                raise UserError(
                    key, entry, expected="a config", fix="dict(type='mimseg.TimmTeacher', ...)"
                )
            check_types(entry, key)
            teachers[name] = entry
    return teachers, student


def _load(path: str) -> dict:
    try:
        file = find_config(path, folder="analysis")
    except UserError:
        fix = "correct the path"
        raise UserError("--teachers", path, expected=FORM, fix=fix) from None
    try:
        cfg = Config.fromfile(file, import_custom_modules=False).to_dict()
    except Exception as error:
        raise UserError("--teachers", path, expected=f"a config that loads ({error})") from error
    if not isinstance(cfg.get("teachers"), dict) or not cfg["teachers"]:
        raise UserError(
            "--teachers", path, expected="a config with teachers=dict(name=dict(type=...), ...)"
        )
    return cfg


def _parse(source: str, text: str) -> dict:
    kind, *options = text.split(",")
    if not kind or any("=" not in option for option in options):
        raise UserError(
            "--teachers", source, expected=FORM, fix="nested options need a config file"
        )
    return {"type": kind} | {
        key: _value(value) for key, value in (option.split("=", 1) for option in options)
    }


def _value(text: str) -> Any:
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def build_student(cfg: dict | None) -> nn.Module:
    """The student that the teachers are bound to, with weights drawn, or a `NoStudent`."""
    if cfg is None:
        return NoStudent()
    check_types(cfg, "student")
    with report_build_errors(cfg, "student"):
        student = MODELS.build(cfg)
    student.init_weights()
    return student


def build_teacher(name: str, cfg: dict, student: nn.Module) -> tuple[Teacher, int]:
    """A teacher, bound to the student and without its weights, and the layer that is measured.

    Args:
        cfg: its config; the option `layer` is not the teacher's but names the layer (-1).

    Raises:
        UserError: it does not build.
    """
    key, options = f"teachers.{name}", dict(cfg)
    layer = options.pop("layer", -1)
    try:
        teacher = MODELS.build(options)
    except UserError as error:
        raise UserError(f"{key}: {error}") from error
    except (TypeError, ValueError, KeyError) as error:
        raise UserError(key, cfg, expected=f"a config that builds ({error})") from error
    if not isinstance(teacher, Teacher):
        raise UserError(
            f"{key}.type", cfg["type"], expected="a teacher, such as mimseg.TimmTeacher"
        )
    try:
        teacher.bind(student)
    except UserError as error:
        raise UserError(f"{key}: {error}") from error
    return teacher.requires_grad_(False).eval(), layer


def load_teacher(name: str, teacher: Teacher, student: nn.Module, seed: int) -> None:
    """Draw or load the weights; random ones depend on the seed alone, not on the others."""
    torch.manual_seed(seed)
    try:
        teacher.load(student)
    except UserError as error:
        raise UserError(f"teachers.{name}: {error}") from error
    teacher.requires_grad_(False).eval()
