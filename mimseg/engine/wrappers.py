"""Finds a model within what distributed runs and test-time augmentation put around it."""

from __future__ import annotations

from mmengine.model import BaseTTAModel, is_model_wrapper
from torch import nn


def bare(model: nn.Module) -> nn.Module:
    """The model itself, within the wrappers of distributed runs and test-time augmentation."""
    while is_model_wrapper(model) or isinstance(model, BaseTTAModel):
        model = model.module
    return model
