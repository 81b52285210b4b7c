"""Every config loads, builds at full size without memory, and takes a step at a small one."""

from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS as ROOT
from mmengine.registry import DefaultScope

from mimseg.engine.prepare import check_types

ROOT_DIR = Path(__file__).parents[1]
FILES = sorted(
    path.relative_to(ROOT_DIR)
    for path in (ROOT_DIR / "configs").rglob("*.py")
    if "_base_" not in path.parts and "benchmark" not in path.parts
)
ARCH = dict(embed_dims=48, num_layers=6, num_heads=4, feedforward_channels=96)
MILLIONS = {"mini": 1.2, "tiny": 5.5, "base": 86}


def load(path):
    cfg = Config.fromfile(ROOT_DIR / path)
    DefaultScope.get_instance(f"test {path}", scope_name=cfg.default_scope)
    return cfg


def build(cfg):
    with ROOT.switch_scope_and_registry(cfg.default_scope) as registry:
        return registry.build(cfg.model)


@pytest.mark.parametrize("path", FILES, ids=str)
def test_full_size(path):
    cfg = load(path)
    check_types(cfg.to_dict())
    assert len((ROOT_DIR / path).read_text().splitlines()) < 80
    with torch.device("meta"):
        model = build(cfg)
    named = model.backbone.named_parameters()  # positions depend on the image size
    millions = sum(p.numel() for name, p in named if name != "pos_embed") / 1e6
    assert millions == pytest.approx(MILLIONS[cfg.model.backbone.arch], rel=0.1)


def shrink(cfg):
    """Six blocks of width 48, images of 64 px, in place."""
    model = cfg.model
    model.backbone.update(arch=ARCH, img_size=64, patch_size=8)
    if "neck" in model:
        model.neck.in_channels = 48
    if "auxiliary_head" in model:
        model.auxiliary_head.update(in_channels=48, channels=16)
        model.auxiliary_head.norm_cfg = model.decode_head.norm_cfg = dict(type="BN")
        model.neck.norm = "BN"
    if "decode_head" in model:
        model.decode_head.update(in_channels=[48] * 4, channels=16)
        model.backbone.out_indices = (2, 3, 4, 5)
        model.data_preprocessor.size = (64, 64)
    elif "rpn_head" in model:
        model.backbone.out_indices = (5,)
    else:
        model.head.update(embed_dims=32, depth=1, num_heads=4)


def batch(cfg):
    """Random images, and labels of the task."""
    if cfg.default_scope == "mmpretrain":
        return dict(inputs=torch.randint(256, (2, 3, 64, 64), dtype=torch.uint8))
    if cfg.default_scope == "mmdet":
        from mmdet.testing import demo_mm_inputs

        return demo_mm_inputs(2, [[3, 64, 64], [3, 64, 64]], num_classes=5, with_mask=True)
    from mmengine.structures import PixelData
    from mmseg.structures import SegDataSample

    samples = []
    for _ in range(2):
        labels = PixelData(data=torch.randint(5, (1, 64, 64)))
        samples.append(SegDataSample(gt_sem_seg=labels, metainfo=dict(img_shape=(64, 64))))
    images = [torch.randint(256, (3, 64, 64), dtype=torch.uint8) for _ in samples]
    return dict(inputs=images, data_samples=samples)


@pytest.mark.parametrize("path", FILES, ids=str)
def test_one_step(path):
    from mmengine.optim import build_optim_wrapper

    from mimseg.registry import OPTIM_WRAPPER_CONSTRUCTORS

    cfg = load(path)
    shrink(cfg)
    model = build(cfg)
    model.init_weights()
    assert OPTIM_WRAPPER_CONSTRUCTORS.get(cfg.optim_wrapper.constructor) is not None
    cfg.optim_wrapper.type = "OptimWrapper"  # --amp's own wrapper has a test of its own
    wrapper = build_optim_wrapper(model, cfg.optim_wrapper)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    losses = model.train_step(batch(cfg), wrapper)
    assert torch.isfinite(losses["loss"])
    stuck = [
        name
        for name, parameter in model.named_parameters()
        if parameter.requires_grad and torch.equal(parameter, before[name])
    ]
    assert not [name for name in stuck if name.startswith("backbone.")]
