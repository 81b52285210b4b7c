"""Builds the model to export from a config, with the weights of a checkpoint."""

from __future__ import annotations

import copy
import inspect
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from mmengine.config import Config
from mmengine.registry import DefaultScope
from torch import nn

from mimseg import __version__
from mimseg.checkpoints.files import read_checkpoint, resolve_checkpoint
from mimseg.checkpoints.loader import load_backbone, load_whole, weights_in
from mimseg.checkpoints.names import shorten
from mimseg.engine.build_errors import report_build_errors
from mimseg.engine.prepare import check_types
from mimseg.errors import UserError
from mimseg.export.parts import PARTS, choose_part
from mimseg.export.preprocessing import Preprocessing
from mimseg.registry import MODELS

_KEY = "CHECKPOINT"


@dataclass(frozen=True)
class ExportedModel:
    """The model to export and what its file says of it.

    Attributes:
        module: in eval mode, images (B, C, H, W) -> a tuple of tensors.
        what: "classifier", "features" or "segmentor".
        preprocessing: that of its images.
        size: (H, W) of the config, or None.
        in_channels: C.
        least: the smallest side that a file for any size takes: four patches.
        facts: the file's metadata.
    """

    module: nn.Module
    what: str
    preprocessing: Preprocessing
    size: tuple[int, int] | None
    in_channels: int
    least: int
    facts: dict[str, str]

    @classmethod
    def build(
        cls, cfg: Config, checkpoint: str, what: str = "auto", trust: bool = False
    ) -> ExportedModel:
        """Build what is asked for, and load its weights.

        Args:
            cfg: a config with a classifier, a segmentor, anything with a backbone, or a backbone.
            checkpoint: a file or a work dir.
            what: "auto", "classifier", "features" or "segmentor".
            trust: unpickle code in the checkpoint.

        Raises:
            UserError: the config does not offer it, or the checkpoint does not fit.
        """
        if not isinstance(cfg.get("model"), dict) or "type" not in cfg.model:
            raise UserError("model", cfg.get("model"), expected="a config with a model")
        check_types(cfg.model.to_dict(), "model")
        scope = cfg.get("default_scope") or "mmengine"
        DefaultScope.get_instance(f"export {id(cfg)}", scope_name=scope)
        with MODELS.switch_scope_and_registry(scope) as registry:
            model_type = _get(registry, cfg.model, "model")
            what = choose_part(what, model_type)
            backbone = copy.deepcopy(cfg.model.get("backbone", cfg.model))
            if what == "features":
                backbone_type = _get(registry, backbone, "model.backbone")
                if "out_type" in inspect.signature(backbone_type).parameters:
                    backbone.out_type = "featmap"
            with report_build_errors(cfg):
                model = registry.build(backbone if what == "features" else cfg.model)
        path = resolve_checkpoint(checkpoint, _KEY)
        facts = dict(what=what, config=Path(cfg.filename or "").name, checkpoint=Path(path).name)
        if what == "features":
            missing = set(load_backbone(model, path, trust=trust, key=_KEY).missing)
            if new := sorted(missing - {"mask_token"}):
                expected = f"weights of the whole backbone; the file has no {shorten(new, 3)}"
                fix = "turn off in the config what was not trained, with --cfg-options"
                raise UserError(_KEY, path, expected=expected, fix=fix)
        else:
            facts |= _load_whole(model, path, trust)
        return cls(
            PARTS[what](model.eval()),
            what,
            Preprocessing.of(cfg, model_type),
            _size(cfg.model, backbone),
            backbone.get("in_channels", 3),
            4 * backbone.get("patch_size", 16),
            {"version": __version__} | facts,
        )


def _get(registry: object, cfg: dict, key: str) -> type:
    kind = registry.get(cfg["type"])
    if kind is None:
        raise UserError(f"{key}.type", cfg["type"], expected="a type that is registered")
    return kind


def _size(model: dict, backbone: dict) -> tuple[int, int] | None:
    """The size that the model is tested at, or its position embedding is made for."""
    sizes: Iterable = (
        (model.get("test_cfg") or {}).get("crop_size"),
        (model.get("data_preprocessor") or {}).get("size"),
        backbone.get("img_size"),
    )
    size = next((value for value in sizes if value), None)
    return (size, size) if isinstance(size, int) else tuple(size) if size else None


def _load_whole(model: nn.Module, path: str, trust: bool) -> dict[str, str]:
    """Load every tensor of a model; return the classes' names where the file has them."""
    checkpoint = read_checkpoint(path, trust, key=_KEY)
    fix = "name a checkpoint that this config trained, or --what features for the backbone alone"
    load_whole(model, weights_in(checkpoint, path, _KEY), path, _KEY, fix)
    classes = ((checkpoint.get("meta") or {}).get("dataset_meta") or {}).get("classes")
    return {"classes": json.dumps(list(classes))} if classes else {}
