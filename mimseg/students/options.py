"""What the ViT's options may be, alone and together."""

from __future__ import annotations

from mimseg.errors import UserError
from mimseg.students.archs import ARCHS
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
    _expect("arch", arch, tuple(ARCHS))
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
        _expect(key, options[key], allowed)
    own = options["last_block_heads"]
    if options["rel_pos_bias"] == "shared" and own not in (None, heads):
        raise UserError(
            "backbone.last_block_heads",
            own,
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


def _expect(key: str, value: object, allowed: tuple) -> None:
    if value not in allowed:
        raise UserError(
            f"backbone.{key}", value, expected="one of " + ", ".join(map(repr, allowed))
        )
