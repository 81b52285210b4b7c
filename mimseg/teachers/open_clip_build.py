"""Builds the image towers of open_clip's models."""

from __future__ import annotations

import open_clip
from open_clip.transformer import VisionTransformer

from mimseg.errors import UserError

# open_clip builds whole models: the smallest text tower, to be thrown away
_NO_TEXT = dict(context_length=1, vocab_size=1, width=8, heads=1, layers=1)


def read_config(model: str | dict) -> tuple[str, dict]:
    """The model's name and its config, which the caller may change.

    Args:
        model: open_clip's name, with "/" or "-", or "local-dir:FOLDER"; or a config dict.

    Raises:
        UserError: no such model, or a dict without a tower.
    """
    if isinstance(model, str):
        model = model.replace("/", "-") if ":" not in model else model
        cfg = None if model.startswith("hf-hub:") else open_clip.get_model_config(model)
        if cfg is None:
            raise UserError(
                "teacher.model",
                model,
                expected="a name among open_clip.list_models(), or a config dict",
            )
        return model, dict(cfg)
    if not {"embed_dim", "vision_cfg"} <= set(model):
        raise UserError("teacher.model", model, expected="a dict with embed_dim and vision_cfg")
    cfg = {**model, "vision_cfg": dict(model["vision_cfg"])}
    return "the CLIP tower", cfg


def build_tower(model: str, cfg: dict) -> VisionTransformer:
    """The image tower alone, with weights as drawn.

    Raises:
        UserError: a tower of another kind, or a config that open_clip refuses.
    """
    vision = cfg["vision_cfg"]
    if vision.get("timm_model_name") or isinstance(vision.get("layers", 12), (list, tuple)):
        expected = "a tower of open_clip's own ViT, not of timm or a ResNet"
        raise UserError(
            "teacher.model", model, expected=expected, fix="use mimseg.TimmTeacher for its trunk"
        )
    if vision.get("width", 768) % vision.get("head_width", 64):
        heads = f"a divisor of width = {vision.get('width', 768)}"
        raise UserError(
            "teacher.model.vision_cfg.head_width", vision.get("head_width", 64), expected=heads
        )
    try:
        whole = open_clip.CLIP(
            cfg["embed_dim"], dict(vision), _NO_TEXT, quick_gelu=bool(cfg.get("quick_gelu", False))
        )
    except (AssertionError, TypeError, ValueError) as error:
        raise UserError(
            "teacher.model", cfg, expected=f"a config open_clip takes ({error})"
        ) from error
    return whole.visual
