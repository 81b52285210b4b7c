"""Updates of teachers that follow the student."""

from __future__ import annotations

from mmengine.hooks import Hook
from mmengine.runner import Runner

from mimseg.algorithms.teacher_bank import teachers_of
from mimseg.engine.wrappers import bare
from mimseg.registry import HOOKS


@HOOKS.register_module()
class TeacherUpdateHook(Hook):
    """Call `update(student, total)` of each teacher that has it, after every optimizer step.

    Where gradients are accumulated, the iterations between two steps change nothing. The teachers
    count their updates themselves and save the count, so a resumed run continues their schedule.
    A model whose teachers all stand still is left alone. So are teachers after a step that was
    skipped for not being finite, where the host knows of it; else they take one more small step
    towards the unchanged student.

    A teacher is averaged before a checkpoint of the same iteration is saved, as mmengine's
    checkpoint hooks have a lower priority.
    """

    priority = "NORMAL"

    def before_train(self, runner: Runner) -> None:
        model = bare(runner.model)
        teachers = teachers_of(model)
        self._student = getattr(model, "backbone", None)
        self._followers = [t for t in teachers.values() if callable(getattr(t, "update", None))]
        # mmengine steps once more at the end, with what is left of the accumulation
        steps = getattr(runner.optim_wrapper, "_accumulative_counts", 1)
        self._total = -(-runner.max_iters // steps)

    def after_train_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: dict | None = None,
        outputs: dict | None = None,
    ) -> None:
        """Follow the student, if the optimizer has just stepped."""
        wrapper = runner.optim_wrapper
        skipped = getattr(wrapper, "skipped", False)
        if self._followers and wrapper.should_update() and not skipped:
            for teacher in self._followers:
                teacher.update(self._student, self._total)
