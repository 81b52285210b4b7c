"""Teaches by a moving average of the student."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mimseg.errors import UserError
from mimseg.outputs import Needs, TeacherOutput
from mimseg.registry import MODELS
from mimseg.teachers.vit import ViTTeacher

_PROBED = 8  # values of each parameter that are looked at


@MODELS.register_module()
class EMATeacher(ViTTeacher):
    """The exponential moving average of the student (data2vec, arXiv 2202.03555, section 3.2).

    It starts as a copy of the student, unless `init` says otherwise. `mimseg.TeacherUpdateHook`
    must be among the hooks: it calls `update` after every optimizer step. Training without it is an
    error in the first step that sees a changed student, not a teacher that never changes.

    The momentum grows linearly from `momentum` to `end_momentum` over the first `anneal_steps`
    updates and stays there, as in data2vec. Its update number t, from 0, uses

        m(t) = momentum + (end_momentum - momentum) * min(t / anneal_steps, 1).

    Args:
        momentum: the teacher's share in its own update. The default is our choice.
        end_momentum: the last momentum; None keeps `momentum`.
        anneal_steps: optimizer steps from the first momentum to the last; None takes the whole run.
        depth: number of blocks to keep; None keeps all.
        final_norm: whether the network's final norm is applied to the last block's tokens.
        init: what it starts as; another than "student" is a checkpoint or a work dir (dBOT's
            ablation of momentum within a stage).

    Raises:
        UserError: a momentum outside [0, 1], or steps without an end.
    """

    saved: bool = True

    def __init__(
        self,
        momentum: float = 0.9998,
        end_momentum: float | None = None,
        anneal_steps: int | None = None,
        depth: int | None = None,
        final_norm: bool = False,
        init: str = "student",
        **kwargs,
    ) -> None:
        for key in ("backbone", "saved"):
            if key in kwargs:
                raise UserError(
                    f"teacher.{key}",
                    kwargs[key],
                    expected="nothing: the average has the student's shape and is always saved",
                    fix="leave it out, or use mimseg.ViTTeacher",
                )
        super().__init__(init=init, depth=depth, final_norm=final_norm, saved=True, **kwargs)
        for key, value in (("momentum", momentum), ("end_momentum", end_momentum)):
            if value is not None and not 0 <= value <= 1:
                raise UserError(f"teacher.{key}", value, expected="a number from 0 to 1")
        if anneal_steps is not None and (end_momentum is None or anneal_steps < 1):
            raise UserError(
                "teacher.anneal_steps",
                anneal_steps,
                expected="a positive number, with end_momentum",
            )
        self.momentum, self.end_momentum = momentum, end_momentum
        self.anneal_steps = anneal_steps
        self.register_buffer("updates", torch.tensor(0, dtype=torch.int64))
        self._host_updates: int | None = None  # spares a device synchronization per step
        self._seen: Tensor | None = None
        self._updated = False
        self._register_load_state_dict_pre_hook(self._forget)

    def bind(self, student: nn.Module) -> None:
        super().bind(student)
        self._student = (student,)  # in a tuple, so that it is no part of this module

    def load(self, student: nn.Module) -> None:
        super().load(student)
        self.updates.zero_()
        self._forget()

    def _forget(self, *_: object) -> None:
        """Weights are about to be replaced: what was seen of the student counts no more."""
        self._host_updates, self._seen, self._updated = None, None, False

    def momentum_at(self, step: int, total: int | None = None) -> float:
        """The momentum of update number `step`, from 0, in a run of `total` updates."""
        if self.end_momentum is None:
            return self.momentum
        steps = self.anneal_steps or total
        if not steps:
            raise UserError(
                "teacher.anneal_steps",
                None,
                expected="a number, or the length of the run",
                fix="give it",
            )
        return self.momentum + (self.end_momentum - self.momentum) * min(step / steps, 1.0)

    @torch.no_grad()
    def update(self, student: nn.Module, total: int | None = None) -> None:
        """teacher = m * teacher + (1 - m) * student; buffers are copied.

        Args:
            student: the network that is followed, unwrapped; sharded (FSDP2) or not.
            total: optimizer steps of the whole run, for the schedule.
        """
        if self._host_updates is None:
            self._host_updates = int(self.updates)
        share = 1.0 - self.momentum_at(self._host_updates, total)
        for kind in ("named_parameters", "named_buffers"):
            source = {k.replace("_orig_mod.", ""): v for k, v in getattr(student, kind)()}
            for name, average in getattr(self.backbone, kind)():
                new = source[name].detach()
                if hasattr(new, "full_tensor") and not hasattr(average, "full_tensor"):
                    new = new.full_tensor()  # the student is sharded and this is not
                if kind == "named_buffers" or not average.is_floating_point():
                    average.copy_(new)
                elif average.dtype in (torch.float32, torch.float64):
                    average.lerp_(new.to(average.device, average.dtype), share)
                else:
                    raise UserError(
                        "teacher",
                        f"{name} in {average.dtype}",
                        expected="an average in float32, which alone can hold such small steps",
                        fix="train under autocast with float32 weights",
                    )
        self._host_updates += 1
        self.updates.fill_(self._host_updates)
        self._seen, self._updated = None, True

    def targets(self, images: Tensor, needs: Needs) -> TeacherOutput:
        """Tokens (B, L, C) and CLS (B, C) after the blocks asked for.

        Raises:
            UserError: the student has been trained since its first step and nobody called `update`.
        """
        self._expect_update()
        return super().targets(images, needs)

    def _expect_update(self) -> None:
        """Compare a few values of the student with those of its first step.

        Only until the first update: once it came, the hook is there. An accumulated gradient, an
        evaluation or a picture changes no weight, so none of them is taken for a step.
        """
        student = self._student[0]
        if self._updated or not student.training:
            return
        parts = [getattr(p, "to_local", lambda p=p: p)() for p in student.parameters()]
        values = [part.detach().reshape(-1)[:_PROBED].float() for part in parts]
        seen = torch.cat(values).cpu()
        if self._seen is None:
            self._seen = seen
        elif not torch.equal(self._seen, seen):
            raise UserError(
                "custom_hooks",
                "no mimseg.TeacherUpdateHook",
                expected="that hook: the student was trained and its moving average was not "
                "updated",
                fix="custom_hooks=[dict(type='mimseg.TeacherUpdateHook')], or call the teacher's "
                "update(student) after each optimizer step of your own loop",
            )
