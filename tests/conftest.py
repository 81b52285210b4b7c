"""Shared by all tests: one thread a worker, and tiny building blocks."""

import logging
import os
import sys

os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
import torch
from mmengine.logging import MMLogger

import mimseg  # noqa: F401
from mimseg.registry import MODELS

TINY = dict(embed_dims=48, num_layers=3, num_heads=4, feedforward_channels=96)


@pytest.fixture(autouse=True)
def _seeded():
    torch.set_num_threads(1)
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def _open_streams():
    """A logger of an earlier test writes to a stream that is closed with that test."""
    for logger in MMLogger._instance_dict.values():
        for handler in logger.handlers:
            if type(handler) is logging.StreamHandler:
                handler.stream = sys.__stdout__  # setStream flushes the old one


@pytest.fixture
def tiny_vit():
    """A maker of small ViTs with weights drawn: 16 patches at 32 px."""

    def make(**options):
        cfg = dict(type="mimseg.ViT", arch=TINY, img_size=32, patch_size=8) | options
        model = MODELS.build(cfg)
        model.init_weights()
        return model

    return make


@pytest.fixture
def tiny_mim():
    """A maker of small algorithms (dBOT's slots unless told otherwise), initialised."""

    def make(init=True, **options):
        cfg = dict(
            type="mimseg.MaskedImageModeling",
            backbone=dict(type="mimseg.ViT", arch=TINY, img_size=32, patch_size=8),
            masking=dict(type="mimseg.RandomMasking", ratio=0.75, seed=1),
            teacher=dict(type="mimseg.ViTTeacher", init="student"),
            normalization=dict(type="mimseg.TokenLayerNorm"),
            head=dict(type="mimseg.DecoderHead", embed_dims=32, depth=1, num_heads=4),
            loss=dict(type="mimseg.SmoothL1Loss", beta=2.0),
        )
        model = MODELS.build(cfg | options)
        if init:
            model.init_weights()
        return model

    return make


@pytest.fixture
def views():
    """Three images of 32 px as both views."""
    images = torch.rand(3, 3, 32, 32)
    return {"student": images, "teacher": images}
