"""torch.compile for the networks of a run, block by block."""

from __future__ import annotations

from collections.abc import Iterable

from torch import nn

from mimseg.errors import UserError

NETWORKS = ("student", "teacher")


def check_compile(settings: object) -> dict[str, dict]:
    """A config's `compile` as {"student" or "teacher": torch.compile's options}.

    Raises:
        UserError: compilation of the whole step (mmengine's compile=True would take the data
            preprocessor along), or an unknown network.
    """
    fix = "compile=dict(student=True), or dict(student=dict(mode='max-autotune-no-cudagraphs'))"
    if not settings:
        return {}
    if not isinstance(settings, dict):
        expected = "a dict: compiling the whole step would take the data preprocessor along"
        raise UserError("compile", settings, expected=expected, fix=fix)
    if unknown := sorted(set(settings) - set(NETWORKS)):
        raise UserError(
            f"compile.{unknown[0]}", settings[unknown[0]], expected=f"one of {NETWORKS}", fix=fix
        )
    networks = {name: {} if value is True else value for name, value in settings.items() if value}
    for name, options in networks.items():
        if not isinstance(options, dict):
            raise UserError(
                f"compile.{name}", options, expected="True or torch.compile's options", fix=fix
            )
    return {name: dict(options) for name, options in networks.items()}


def compile_networks(model: nn.Module, settings: dict[str, dict]) -> None:
    """Compile the blocks of a model's networks in place.

    Block by block: they share one compiled code, which takes seconds where a whole network takes
    minutes, and the names in checkpoints stay. A teacher's block that somebody looks into (query,
    key, value, attention) is left as it is: the compiled code would not see the looking.

    Args:
        model: with a `backbone`, and teachers where settings name them.
        settings: as `check_compile` gives them.

    Raises:
        UserError: a network without blocks, or no teacher.
    """
    if "student" in settings:
        blocks = getattr(getattr(model, "backbone", None), "layers", ())
        _compile("student", blocks, settings["student"])
    if "teacher" not in settings:
        return
    bank = getattr(model, "bank", None)
    if bank is None:
        raise UserError("compile.teacher", settings["teacher"], expected="a model with teachers")
    needs = model.teacher_needs()
    blocks = [
        block
        for name, teacher in bank.teachers.items()
        for block in teacher.plain_blocks(needs[name])
    ]
    _compile("teacher", blocks, settings["teacher"])


def _compile(name: str, blocks: Iterable[nn.Module], options: dict) -> None:
    blocks = list(blocks)
    if not blocks:
        raise UserError(f"compile.{name}", options, expected=f"a {name} with transformer blocks")
    for block in blocks:
        block.compile(**options)
