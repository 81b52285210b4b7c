"""Checks the ViT's options and spells them out for each block."""

from __future__ import annotations

from collections.abc import Sequence

from mimseg.errors import UserError, require_choice
from mimseg.students.archs import ARCHS, last_of_quarters
from mimseg.students.weights import SCHEMES

CHOICES = {
    "mask_mode": ("drop", "token"),
    "pos_embed": ("sincos", "learned", "none"),
    "rel_pos_bias": ("none", "shared", "per_block"),
    "rel_pos_resize": ("bicubic", "geometric"),
    "drop_path_schedule": ("linear", "constant"),
    "weight_init": tuple(SCHEMES),
    "out_type": ("featmap", "cls_token", "avg_featmap", "raw"),
}


def arch_settings(arch: str | dict) -> dict:
    """The settings that an arch's name stands for, or those given."""
    if not isinstance(arch, str):
        return arch
    require_choice("backbone.arch", arch, ARCHS)
    return ARCHS[arch]


def check_options(options: dict, heads: int) -> None:
    """See that a ViT's options are known and fit one another.

    Args:
        options: the constructor's arguments by name.
        heads: head count of the blocks.

    Raises:
        UserError: naming the option.
    """
    for key, allowed in CHOICES.items():
        require_choice(f"backbone.{key}", options[key], allowed)
    last = options["last_block_heads"]
    if options["rel_pos_bias"] == "shared" and last not in (None, heads):
        raise UserError(
            "backbone.last_block_heads",
            last,
            expected=f"the other blocks' {heads}, which share one table",
            fix="rel_pos_bias='per_block' or 'none'",
        )
    for key in ("window_size", "decomposed_rel_pos"):
        biased = options["rel_pos_bias"] != "none"
        if options[key] and (options["with_cls_token"] or biased):
            raise UserError(
                f"backbone.{key}",
                options[key],
                expected="a map of patches alone, without the biases of rel_pos_bias",
                fix="with_cls_token=False and rel_pos_bias='none'",
            )
    if options["out_type"] == "cls_token" and not options["with_cls_token"]:
        raise UserError(
            "backbone.out_type",
            "cls_token",
            expected="a ViT that has one",
            fix="with_cls_token=True, or out_type='avg_featmap'",
        )


def drop_path_rates(rate: float, schedule: str, depth: int) -> list[float]:
    """Each block's rate: "linear" from 0 to `rate`, or "constant" but 0 in the last block."""
    if schedule == "constant":
        return [rate * (i < depth - 1) for i in range(depth)]
    return [rate * i / max(depth - 1, 1) for i in range(depth)]


def block_windows(size: int, global_blocks: Sequence[int] | None, depth: int) -> list[int]:
    """Each block's window, 0 for none.

    Raises:
        UserError: a global block that is not there.
    """
    if not size:
        return [0] * depth
    if global_blocks is None:
        global_blocks = last_of_quarters(depth)
    whole = {index % depth for index in global_blocks if -depth <= index < depth}
    if len(whole) != len(set(global_blocks)):
        raise UserError(
            "backbone.global_blocks", list(global_blocks), expected=f"blocks 0 to {depth - 1}"
        )
    return [0 if index in whole else size for index in range(depth)]
