"""Runs masked image modeling: one student pass, one mask, any number of objectives."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from operator import or_

import torch
from mmengine.model import ModuleDict
from mmpretrain.models.selfsup.base import BaseSelfSupervisor
from mmpretrain.registry import MODELS as MMPRETRAIN_MODELS
from torch import Tensor, nn

from mimseg.algorithms.objective import Objective
from mimseg.algorithms.teacher_bank import TeacherBank
from mimseg.errors import UserError, require_choice
from mimseg.heads.base import Head, Setting
from mimseg.normalizations.base import Normalization
from mimseg.outputs import Needs, StudentOutput
from mimseg.registry import MODELS
from mimseg.teachers.base import IMAGENET_MEAN, IMAGENET_STD

SLOTS = ("teacher", "backbone", "normalization", "head", "loss")
"""The five slots, by config key: loss(normalization(teacher), head(backbone)). `masking` is the
mask."""


@MMPRETRAIN_MODELS.register_module()
@MODELS.register_module()
class MaskedImageModeling(BaseSelfSupervisor):
    """Masked image modeling in the unified view of arXiv 2210.10615: five slots and a mask.

    Teacher, normalization, head and loss make an objective. Several objectives share the student's
    pass and the mask; a teacher that several of them name runs once per step.

    Args:
        backbone: the student.
        masking: the mask generator, or None for full images.
        teacher, normalization, head, loss: the other slots, for a single objective. The
            normalization may be left out where the head has a default.
        positions, with_cls: see `Objective`; "masked" and False unless given.
        objectives: list of dict(name, teacher, normalization, head, loss, weight, positions,
            with_cls) instead of the flat keys; `teacher` is then a name in `teachers`.
        teachers: name -> teacher config.
        mean, std: RGB normalization of the student, for images in [0, 1].
        data_preprocessor: mimseg.MIMDataPreprocessor unless given.
    """

    def __init__(
        self,
        backbone: dict,
        masking: dict | None = None,
        teacher: dict | None = None,
        normalization: dict | None = None,
        head: dict | None = None,
        loss: dict | None = None,
        positions: str | None = None,
        with_cls: bool | None = None,
        objectives: Sequence[dict] | None = None,
        teachers: dict[str, dict] | None = None,
        mean: Sequence[float] = IMAGENET_MEAN,
        std: Sequence[float] = IMAGENET_STD,
        data_preprocessor: dict | nn.Module | None = None,
    ) -> None:
        if not isinstance(data_preprocessor, nn.Module):
            data_preprocessor = {"type": "mimseg.MIMDataPreprocessor", **(data_preprocessor or {})}
            data_preprocessor = MODELS.build(data_preprocessor)
        super().__init__(_build(backbone), data_preprocessor=data_preprocessor)
        self._named_teachers = objectives is not None
        flat = dict(teacher=teacher, normalization=normalization, head=head, loss=loss)
        flat |= dict(positions=positions, with_cls=with_cls)
        if objectives is None:
            _require_slots("model", flat | dict(backbone=backbone))
            if teachers is not None:
                raise UserError(
                    "model.teachers", list(teachers), expected="a list of objectives with it"
                )
            teachers = {"teacher": teacher}
            objective = {key: value for key, value in flat.items() if value is not None}
            objectives = [objective | dict(teacher="teacher")]
        elif not objectives or any(value is not None for value in flat.values()):
            raise UserError(
                "model.objectives",
                len(objectives),
                expected=f"at least one, and no flat keys ({', '.join(flat)}) with them",
                fix="write those into each objective",
            )
        self.masking = None if masking is None else _build(masking)
        self.bank = TeacherBank({name: _build(cfg) for name, cfg in (teachers or {}).items()})
        for built in self.bank.teachers.values():
            built.bind(self.backbone)
        source = None if self.masking is None else self.masking.teacher
        if source is not None and source not in self.bank.teachers:
            raise UserError(
                "masking.teacher", source, expected=f"one of {list(self.bank.teachers)}"
            )
        self.objectives = ModuleDict()  # mmengine's, which initializes its children
        for cfg in objectives:
            options = {key: value for key, value in cfg.items() if key != "name"}
            name = f"loss_{cfg.get('name', '')}".rstrip("_")
            if name in self.objectives:
                raise UserError(
                    "model.objectives", cfg.get("name"), expected="a name for each objective"
                )
            where = "model" if name == "loss" else f"objectives ({name})"
            _require_slots(where, options | dict(backbone=backbone))
            self.objectives[name] = self._objective(where, **options)
        for name, need in self.teacher_needs().items():
            self.bank[name].check(name, need)
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(1, 3, 1, 1), persistent=False)

    def _objective(
        self, where: str, teacher: str, head, loss, normalization=None, **options
    ) -> Objective:
        require_choice("objective.teacher", teacher, self.bank.teachers)
        width = self.bank[teacher].out_channels
        if isinstance(head, dict) and head.get("out_channels", width) != width:
            raise UserError(
                "head.out_channels",
                head["out_channels"],
                expected=f"the width or vocabulary of teacher {teacher!r}, {width}",
                fix="leave it out: it is taken from the teacher",
            )
        widths = dict(in_channels=self.backbone.embed_dims, out_channels=width)
        head = head if isinstance(head, nn.Module) else MODELS.build(head, default_args=widths)
        normalization = _build_normalization(where, normalization, head)
        normalization.bind(width)
        objective = Objective(teacher, normalization, head, _build(loss), **options)
        if objective.with_cls and (
            self.backbone.cls_token is None or "cls" not in self.bank[teacher].offers
        ):
            raise UserError(
                "with_cls", True, expected="a CLS token in both student and teacher", fix="drop it"
            )
        masked = self.masking is not None
        if masked and self.masking.num_masks > 1 and objective.one_mask:
            loss_name = type(objective.criterion).__name__
            raise UserError(
                "masking.num_masks", self.masking.num_masks, expected=f"1 with {loss_name}"
            )
        kind, built = objective.positions_kind, self.bank[teacher]
        head.check(Setting(self.backbone, kind, masked, built, normalization))
        return objective

    def init_weights(self) -> None:
        """Initialize student, masks and heads, then draw or load the teachers, last of all."""
        super().init_weights()
        self.bank.load(self.backbone)

    # ------------------------------------------------------------------ a step

    def loss(self, inputs: dict[str, Tensor], data_samples: list | None = None) -> dict:
        """Losses of one step.

        Args:
            inputs: "student" and "teacher" views, (B, 3, H, W) in [0, 1].
            data_samples: not used.

        Returns:
            One scalar for each objective.
        """
        student, teachers = self._run(inputs)
        return {
            name: objective(student, teachers[objective.teacher])
            for name, objective in self.objectives.items()
        }

    def student_needs(self) -> Needs:
        """What the objectives ask of the student."""
        return reduce(or_, (objective.student_needs for objective in self.objectives.values()))

    def teacher_needs(self) -> dict[str, Needs]:
        """What objectives and the mask ask of each teacher."""
        needs = {name: Needs() for name in self.bank.teachers}
        for objective in self.objectives.values():
            needs[objective.teacher] |= objective.teacher_needs
        if self.masking is not None and self.masking.teacher is not None:
            needs[self.masking.teacher] |= self.masking.needs
        return needs

    def check_views(self, sizes: dict[str, tuple[int, int]]) -> None:
        """Refuse, before the first batch, images that the slots cannot meet on.

        Args:
            sizes: view -> (H, W) in pixels; "student" and, where it differs, "teacher".

        Raises:
            UserError: a mask without masked or visible patches, or a teacher with another grid.
        """
        grid = self.backbone.grid_of(*sizes["student"])
        if self.masking is not None:
            self.masking.num_masked(grid)
        for name, teacher in self.bank.teachers.items():
            size = sizes.get(teacher.view, sizes.get("teacher", sizes["student"]))
            try:
                theirs = teacher.grid_of(*size)
            except UserError as error:  # its own fix would give it some grid, not this one
                raise self._other_grid(name, "no grid", size, grid) from error
            if theirs != grid:
                raise self._other_grid(name, f"grid {theirs[0]}x{theirs[1]}", size, grid)

    def _other_grid(
        self, name: str, theirs: str, size: tuple[int, int], grid: tuple[int, int]
    ) -> UserError:
        """The error of a teacher with another grid than the student's, and what mends it."""
        where = f"model.teachers.{name}" if self._named_teachers else "model.teacher"
        settings = self.bank[name].settings_for(grid)
        fix = " ".join(f"{where}.{key}={value}" for key, value in settings.items())
        return UserError(
            f"teacher ({name})",
            f"{theirs} from a view of {size[0]}x{size[1]} pixels",
            expected=f"the student's grid {grid[0]}x{grid[1]}",
            fix=fix or "another size of its view in the pipeline (mimseg.MIMViews)",
        )

    def _run(self, inputs: dict[str, Tensor]):
        teachers = self.bank.run(inputs, self.teacher_needs())

        images = (inputs["student"] - self.mean) / self.std
        mask, num_masked = None, None
        if self.masking is not None:
            grid = self.backbone.grid(images)
            mask = self.masking(images.shape[0], grid, images.device, teachers)
            num_masked = self.masking.num_masked(grid)
        return self.backbone.encode(images, mask, self.student_needs(), num_masked), teachers

    def extract_feat(self, inputs: Tensor | dict[str, Tensor]) -> tuple[Tensor, ...]:
        """The backbone's features of full images (B, 3, H, W) in [0, 1]."""
        images = inputs["student"] if isinstance(inputs, dict) else inputs
        return self.backbone((images - self.mean) / self.std)

    @torch.no_grad()
    def visualize(self, inputs: dict[str, Tensor]) -> dict:
        """Return what the first objective saw and predicted, for pictures.

        Returns:
            "input" (B, 3, H, W) in [0, 1]; "mask" (B, L) bool, the first of each image, and "grid";
            "target" and "prediction" (B, L, D); "reconstruction" (B, 3, H, W) where the teacher's
            tokens are an image.
        """
        step, modes = None, [module for module in self.modules() if module.training]
        if self.masking is not None:
            step = int(self.masking.step)
        for module in modes:  # a picture is no training step: no statistics, no drop path
            module.training = False
        try:
            student, teachers = self._run(inputs)
            return self._picture(inputs, student, teachers)
        finally:
            for module in modes:
                module.training = True
            if step is not None:
                self.masking.rewind(step)

    def _picture(self, inputs: dict, student: StudentOutput, teachers: dict) -> dict:
        objective = next(iter(self.objectives.values()))
        teacher = teachers[objective.teacher]
        rows, length = student.tokens.shape[0], student.length
        flat = torch.arange(rows * (1 + length), device=student.tokens.device)
        prediction = objective.head(student, flat).reshape(rows, 1 + length, -1)[:, 1:].float()
        target = objective.normalization(teacher)[:, 1:]
        masks = rows // target.shape[0]
        prediction = prediction[::masks]
        mask = None if student.mask is None else student.mask[::masks]
        picture = dict(input=inputs["student"], mask=mask, grid=student.grid)
        picture |= dict(target=target, prediction=prediction)
        raw = objective.normalization.denormalize(prediction, teacher)
        image = self.bank[objective.teacher].to_image(raw, student.grid)
        return picture if image is None else picture | dict(reconstruction=image)

    # ------------------------------------------------------------------ the teachers' state

    def _apply(self, fn, recurse: bool = True):
        if hasattr(self, "bank"):
            self.bank.apply(fn)
        return super()._apply(fn, recurse)

    def _save_to_state_dict(self, destination, prefix, keep_vars) -> None:
        super()._save_to_state_dict(destination, prefix, keep_vars)
        for name, value in self.bank.state_dict().items():
            destination[f"{prefix}teachers.{name}"] = value

    def _load_from_state_dict(self, state, prefix, meta, strict, missing, unexpected, errors):
        key = f"{prefix}teachers."
        saved = {k.removeprefix(key): value for k, value in state.items() if k.startswith(key)}
        self.bank.load_state_dict(saved)
        super()._load_from_state_dict(state, prefix, meta, strict, missing, unexpected, errors)
        unexpected[:] = [name for name in unexpected if not name.startswith(key)]


def _build(cfg: dict | nn.Module) -> nn.Module:
    return cfg if isinstance(cfg, nn.Module) else MODELS.build(cfg)


def _build_normalization(where: str, cfg: dict | nn.Module | None, head: Head) -> Normalization:
    """The config's normalization, or the head's default in the place of none or a plain one."""
    normalization = None if cfg is None else _build(cfg)
    if normalization is None or normalization.plain:
        default = head.default_normalization()
        normalization = normalization if default is None else MODELS.build(default)
    if normalization is None:
        raise _missing(where, "normalization")
    return normalization


def _require_slots(where: str, configs: dict) -> None:
    """Raise UserError for an empty slot; an empty normalization may be the head's default."""
    for slot in SLOTS:
        if configs.get(slot) is None and slot != "normalization":
            raise _missing(where, slot)


def _missing(where: str, slot: str) -> UserError:
    fix = f"add {slot}=dict(type=...)"
    return UserError(f"{where}.{slot}", None, expected="a config", fix=fix)
