"""Builds timm's models and fits foreign weights to them."""

from __future__ import annotations

import inspect
import sys

import timm
from torch import Tensor, nn

from mimseg.errors import UserError
from mimseg.teachers import weights as hub
from mimseg.teachers.taps import same_size

_OURS = {"pretrained": "weights", "checkpoint_path": "weights", "features_only": "stage"}


def build_options(model: str, options: dict, input_size: int | None) -> dict:
    """`model_kwargs`, with the network's size put in where it has one.

    Raises:
        UserError: no such model, or an option that says otherwise than the teacher's own.
    """
    options = {key: value for key, value in options.items() if key != "num_classes"}
    for name in _OURS.keys() & options.keys():
        raise UserError(
            f"teacher.model_kwargs.{name}",
            options[name],
            expected=f"nothing: teacher.{_OURS[name]} says it",
            fix="leave it out",
        )
    if not timm.is_model(model.partition(".")[0]):
        near = timm.list_models(f"*{model.partition('_')[0]}*")[:4]
        fix = "see timm.list_models(); for hub repositories, name the architecture"
        raise UserError(
            "teacher.model", model, expected=f"a model of timm, such as {', '.join(near)}", fix=fix
        )
    try:
        cfg = timm.get_pretrained_cfg(model)
    except RuntimeError as error:
        tags = timm.list_pretrained(f"{model.partition('.')[0]}.*")
        raise UserError(
            "teacher.model", model, expected=f"a tag of timm, {', '.join(tags)}"
        ) from error
    fixed = cfg is not None and cfg.fixed_input_size and not options.get("dynamic_img_size")
    size = options.get("img_size")
    if input_size and not same_size(size, input_size):
        raise UserError(
            "teacher.input_size",
            input_size,
            expected=f"model_kwargs' img_size {size}",
            fix="leave one out",
        )
    return options | {"img_size": input_size} if fixed and input_size else options


def create(model: str, options: dict) -> nn.Module:
    """A timm model with weights as drawn; nothing is downloaded."""
    try:
        return timm.create_model(model, pretrained=False, **options)
    except (AssertionError, KeyError, RuntimeError, TypeError, ValueError) as error:
        expected = f"options that timm's {model} takes ({error})"
        raise UserError("teacher.model_kwargs", options, expected=expected) from error


def convert(
    net: nn.Module, state: dict[str, Tensor], source: str, model: str
) -> tuple[dict[str, Tensor], list[str]]:
    """A file's tensors in the network's names and sizes, by timm's own conversion.

    Returns:
        The tensors, and the names of those that were resized.

    Raises:
        UserError: timm cannot make anything of the names.
    """
    state = hub.strip_prefix(state, net.state_dict())
    fitting = getattr(sys.modules[type(net).__module__], "checkpoint_filter_fn", None)
    if fitting is None:
        return state, []
    options = {}
    parameters = inspect.signature(fitting).parameters
    if "adapt_layer_scale" in parameters and any(name.endswith(".gamma_1") for name in state):
        options["adapt_layer_scale"] = True  # DeiT III's names
    try:
        fitted = fitting(dict(state), net, **options)
    except Exception as error:
        raise UserError(
            hub.KEY,
            source,
            expected=f"a file for {model}; timm cannot convert it ({error})",
            fix="name the model that the file was made with",
        ) from error
    return fitted, [n for n, v in fitted.items() if n in state and v.shape != state[n].shape]


def has_blocks(net: nn.Module) -> bool:
    """Whether the network is a plain ViT: blocks, one grid, prefix tokens."""
    forward = getattr(net, "forward_intermediates", None)
    named = forward is not None and "return_prefix_tokens" in inspect.signature(forward).parameters
    embed = getattr(net, "patch_embed", None)
    return named and hasattr(net, "blocks") and hasattr(embed, "dynamic_feat_size")


def wrong_size(model: str, size: tuple[int, ...], built: tuple[int, ...]) -> UserError:
    """The error of a view of (H, W) = `size`, where the network was built for another."""
    made = f"the size {model} is built for" + (f", {built}" if built else "")
    return UserError(
        "teacher.input_size",
        size,
        expected=made,
        fix=f"set input_size={built[0] if built else 'SIDE'} to resize the view for this "
        "network, or "
        f"model_kwargs=dict(img_size={size if size[0] != size[1] else size[0]}) to resize its "
        "position tables",
    )
