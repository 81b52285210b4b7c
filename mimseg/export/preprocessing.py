"""Reads how a model's images are normalized, and puts it into the graph."""

from __future__ import annotations

import inspect
import json
from dataclasses import dataclass

import torch
from mmengine.config import Config
from torch import Tensor, nn

from mimseg.errors import UserError

_UNKNOWN = "channels as the pipeline loads them"


@dataclass(frozen=True)
class Preprocessing:
    """Mean and standard deviation per channel, of values from 0 to 255, and the channels' order.

    Both are None where the config has none.
    """

    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    channels: str = _UNKNOWN

    @classmethod
    def of(cls, cfg: Config, model_type: type) -> Preprocessing:
        """Read it from a config's data preprocessor, else from the algorithm's own arguments."""
        options = cfg.model.get("data_preprocessor") or cfg.get("data_preprocessor") or {}
        if options.get("mean") is not None:
            mean, std = (tuple(map(float, options[key])) for key in ("mean", "std"))
            rgb = options.get("bgr_to_rgb") or options.get("to_rgb")
            return cls(mean, std, "RGB" if rgb else _UNKNOWN)
        parameters = inspect.signature(model_type).parameters
        if {"mean", "std"} <= parameters.keys():  # MaskedImageModeling's, for RGB in [0, 1]
            values = (cfg.model.get(key, parameters[key].default) for key in ("mean", "std"))
            return cls(*(tuple(round(255.0 * x, 4) for x in value) for value in values), "RGB")
        return cls()

    def facts(self, inside: bool) -> dict[str, str]:
        """The file's metadata; `inside` where the graph itself normalizes."""
        scale = "from 0 to 255" if inside else "normalized: (value from 0 to 255 - mean) / std"
        if self.mean is None:
            return {"input": f"{self.channels}, normalized as in its training"}
        return {
            "input": f"{self.channels}, {scale}",
            "mean": json.dumps(self.mean),
            "std": json.dumps(self.std),
        }


class Normalized(nn.Module):
    """A module preceded by the normalization of its images.

    Raises:
        UserError: the config does not say how.
    """

    def __init__(self, module: nn.Module, preprocessing: Preprocessing) -> None:
        super().__init__()
        if preprocessing.mean is None:
            raise UserError(
                "--normalize",
                "given",
                expected="a data_preprocessor with mean and std in the config",
            )
        self.module = module
        for name in ("mean", "std"):
            values = torch.tensor(getattr(preprocessing, name)).view(1, -1, 1, 1)
            self.register_buffer(name, values, persistent=False)

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Images (B, C, H, W), from 0 to 255."""
        return self.module((images - self.mean) / self.std)
