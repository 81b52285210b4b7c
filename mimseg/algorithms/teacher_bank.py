"""Keeps the teachers out of the algorithm's modules."""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
from mmengine.dist import broadcast
from torch import Tensor, nn

from mimseg.errors import UserError
from mimseg.outputs import Needs, TeacherOutput
from mimseg.teachers.base import Teacher


class TeacherBank:
    """Named teachers, held outside nn.Module registration.

    So no optimizer, gradient, DDP, FSDP or averaged copy sees them, without any filter. The
    algorithm forwards device moves, initialization and checkpoints by hand.

    Args:
        teachers: name -> teacher; a shared teacher is here once and runs once per step.
    """

    def __init__(self, teachers: dict[str, Teacher]) -> None:
        self.teachers = teachers
        self.saves = True
        self.restored: set[str] = set()  # saved teachers that a checkpoint brought back
        self._freeze()

    def __deepcopy__(self, memo: dict) -> TeacherBank:
        """A copy of the model, such as an averaged one, shares the teachers and saves none."""
        other = copy.copy(self)
        other.saves = False
        return other

    def _freeze(self) -> None:
        for teacher in self.teachers.values():
            teacher.requires_grad_(False).eval()

    def __getitem__(self, name: str) -> Teacher:
        return self.teachers[name]

    def apply(self, fn: Callable[[Tensor], Tensor]) -> None:
        """Forward a device move."""
        for teacher in self.teachers.values():
            teacher._apply(fn)

    def load(self, student: nn.Module) -> None:
        """Draw or load all weights; called last in the algorithm's initialization.

        Every rank takes those of the first: ranks draw differently, and the Runner sends round what
        is in a checkpoint alone.
        """
        for teacher in self.teachers.values():
            teacher.load(student)
            for value in teacher.state_dict().values():
                broadcast(value)
        self._freeze()

    def require_sources(self) -> None:
        """See that every teacher's weights can be had; see `Teacher.require_source`."""
        for teacher in self.teachers.values():
            teacher.require_source()

    @torch.no_grad()
    def run(self, views: dict[str, Tensor], needs: dict[str, Needs]) -> dict[str, TeacherOutput]:
        """Run each teacher once on its view (B, 3, H, W) in [0, 1], under the caller's autocast."""
        return {
            name: teacher(views.get(teacher.view, views["teacher"]), needs[name])
            for name, teacher in self.teachers.items()
        }

    def state_dict(self) -> dict[str, Tensor]:
        """What a checkpoint holds: the tensors of saved teachers, the file hash of the others."""
        state = {}
        for name, teacher in self.teachers.items() if self.saves else ():
            if teacher.saved:
                for key, value in teacher.state_dict().items():
                    state[f"{name}.{key}"] = value
            elif teacher.fingerprint():
                digest = bytes.fromhex(teacher.fingerprint())
                state[f"{name}.sha256"] = torch.tensor(list(digest), dtype=torch.uint8)
        return state

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Put a checkpoint's teachers back.

        Raises:
            UserError: the checkpoint's teacher has another shape, or came from another file.
        """
        for name, teacher in self.teachers.items():
            prefix = f"{name}."
            tensors = {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
            digest = tensors.pop("sha256", None)
            if digest is not None:
                _compare_hash(name, teacher, bytes(digest.cpu().tolist()).hex())
            if teacher.saved and tensors:
                try:
                    teacher.load_state_dict(tensors)
                except RuntimeError as error:
                    raise UserError(
                        f"teacher ({name})",
                        "the checkpoint's",
                        expected="the config's shape",
                        fix=str(error),
                    ) from error
                self.restored.add(name)


def teachers_of(model: nn.Module) -> dict[str, Teacher]:
    """A model's teachers by name; none but a pretraining's has any."""
    bank = getattr(model, "bank", None)
    return {} if bank is None else bank.teachers


def _compare_hash(name: str, teacher: Teacher, saved: str) -> None:
    if teacher.fingerprint() != saved:
        raise UserError(
            f"teacher ({name})",
            f"SHA-256 {teacher.fingerprint()}",
            expected=f"the file this run was started with, SHA-256 {saved}",
            fix="put the first file back, or start a new run in another work dir",
        )
