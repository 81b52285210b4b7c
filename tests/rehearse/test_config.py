"""What a rehearsal's config is: channels, blocks, lengths, images and schedule of small size."""

import copy

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import PARAM_SCHEDULERS

from mimseg.errors import UserError
from mimseg.recipes.configs import find_config
from mimseg.rehearse.config import rehearse
from mimseg.rehearse.images import full_side, scale_lengths
from mimseg.rehearse.parts import narrow
from mimseg.rehearse.schedule import shorten
from mimseg.rehearse.size import Size

UPERNET = "ade20k/vit-base_upernet_8xb2-160k_ade20k-512x512"
CASCADE = "coco/cascade-mask-rcnn_vit-base_8xb2-12e_coco"
VITDET = "coco/mask-rcnn_vit-base-vitdet_16xb4-100e_coco"


def load(name):
    return Config.fromfile(find_config(name))


def test_as_many_blocks_as_a_neck_reads():
    size = Size()
    assert size.taps((3, 5, 7, 11), 12) == size.taps((7, 11, 15, 23), 24) == (1, 2, 3, 5)
    assert size.taps((8, 9, 10, 11), 12) == (2, 3, 4, 5)  # in proportion there would be three
    assert size.taps((-4, -1), 12) == (-3, -1)
    assert size.taps((-1, 11), 12) == (4, 5)
    with pytest.raises(UserError, match="at most 6 blocks"):
        size.taps(range(8), 12)


def test_equal_channels_stay_equal():
    size = Size(width=48)
    part = dict(
        in_channels=[768] * 4,
        channels=768,
        feat_channels=256,
        embed_dims=256,
        out_channels=3,
        num_classes=768,
        norm_cfg=dict(type="GN", num_groups=32),
        decoder=[dict(feedforward_channels=2048, num_heads=8)],
    )
    narrow(part, lambda count: size.channels(count, 768))
    assert part == dict(
        in_channels=[48] * 4,
        channels=48,
        feat_channels=32,
        embed_dims=32,
        out_channels=3,
        num_classes=768,
        norm_cfg=dict(type="GN", num_groups=4),
        decoder=[dict(feedforward_channels=256, num_heads=8)],
    )


def test_lengths_are_whole_numbers_and_shares_stay():
    step = dict(type="RandomResizedCrop", size=224, scale=(0.08, 1.0), ratio=(0.75, 1.3))
    resize = dict(type="RandomChoiceResize", scales=[(1333, 480), (1333, -1)], keep_ratio=True)
    pipeline = [step, dict(transforms=[[resize]])]
    scale_lengths(pipeline, 1 / 8)
    assert (step["size"], step["scale"], step["ratio"]) == (28, (0.08, 1.0), (0.75, 1.3))
    assert resize["scales"] == [(167, 60), (167, -1)]


@pytest.mark.parametrize(("name", "side"), [(UPERNET, 512), (CASCADE, 672), (VITDET, 1024)])
def test_images_are_measured_by_the_crop(name, side):
    cfg = load(name)
    img_size = cfg.model.backbone.img_size
    assert full_side(cfg, img_size if isinstance(img_size, int) else min(img_size)) == side
    cfg.model.backbone.img_size = 7
    assert full_side(cfg, 7) == {UPERNET: 512, CASCADE: 800, VITDET: 1024}[name]


def test_geometry_of_dense_recipes():
    cfg = rehearse(load(UPERNET))
    pipeline = cfg.train_dataloader.dataset.pipeline
    assert (pipeline[2].scale, pipeline[3].crop_size) == ((256, 64), (64, 64))
    assert cfg.val_dataloader.dataset.pipeline[1].scale == (256, 64)
    assert cfg.tta_pipeline[1].transforms[0][0].scale == (128, 32)
    assert (cfg.model.test_cfg.crop_size, cfg.model.test_cfg.stride) == ((64, 64), (43, 43))
    assert cfg.model.data_preprocessor.size == (64, 64)
    assert cfg.model.data_preprocessor.test_cfg.size_divisor == 8
    assert cfg.model.decode_head.in_channels == [48] * 4 and cfg.model.decode_head.channels == 48
    cfg = rehearse(load(VITDET))
    assert cfg.model.data_preprocessor.pad_size_divisor == 64
    assert cfg.model.rpn_head.anchor_generator.strides == [2, 4, 8, 16, 32]
    assert cfg.model.roi_head.bbox_roi_extractor.featmap_strides == [2, 4, 8, 16]
    assert cfg.model.test_cfg.rcnn.score_thr == 0 and cfg.model.train_cfg.rcnn.sampler.num == 16


def test_the_config_itself_stays():
    for name in (UPERNET, "dbot/dbot_vit-base-p16_32xb128-amp-2x800e_in1k"):
        cfg = load(name)
        before = copy.deepcopy(cfg.to_dict())
        rehearse(cfg)
        assert cfg.to_dict() == before


def test_several_data_sets_share_the_images():
    cfg = load(UPERNET)
    one = cfg.train_dataloader.dataset
    several = [one, dict(one, indices=[7, 8, 9]), dict(one, indices=1)]
    repeated = dict(type="RepeatDataset", times=50, dataset=dict(type="ConcatDataset"))
    repeated["dataset"]["datasets"] = several
    cfg.train_dataloader.dataset = repeated
    cfg = rehearse(cfg)
    dataset = cfg.train_dataloader.dataset
    assert dataset.times == 1
    assert [one.indices for one in dataset.dataset.datasets] == [2, [7, 8], 1]
    assert cfg.val_dataloader.dataset.indices == 2


def short(loop, *schedulers, **more):
    cfg = Config(
        dict(train_cfg=loop, param_scheduler=list(schedulers), model={}, optim_wrapper={}, **more)
    )
    shorten(cfg)
    return cfg


def rates(cfg, steps):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    schedulers = [PARAM_SCHEDULERS.build(dict(s, optimizer=optimizer)) for s in cfg.param_scheduler]
    trace = []
    for _ in range(steps):
        trace.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        for scheduler in schedulers:
            scheduler.step()
    return trace


WARM = dict(type="LinearLR", start_factor=0.01)


def test_a_schedule_by_epochs():
    cosine = dict(type="CosineAnnealingLR", T_max=285, begin=15, end=300, eta_min=0.1)
    parts = (dict(WARM, begin=0, end=15, convert_to_iter_based=True), cosine)
    cfg = short(dict(by_epoch=True, max_epochs=300, val_interval=10, val_begin=100), *parts)
    assert cfg.train_cfg == dict(by_epoch=True, max_epochs=1, val_interval=1)
    assert [(part.begin, part.end) for part in cfg.param_scheduler] == [(0, 1), (1, 2)]
    assert rates(cfg, 2)[0] == pytest.approx(0.01)
    assert cfg.default_hooks.checkpoint.interval == 1


def test_a_schedule_by_iterations():
    loop = dict(type="IterBasedTrainLoop", max_iters=160000, val_interval=16000)
    hooks = dict(checkpoint=dict(type="X", by_epoch=False, interval=16000, save_begin=9))
    parts = (dict(WARM, by_epoch=False, begin=0, end=1500),)
    parts += (dict(type="PolyLR", eta_min=0.0, by_epoch=False, begin=1500, end=160000),)
    cfg = short(loop, *parts, default_hooks=hooks)
    assert cfg.train_cfg == dict(type="IterBasedTrainLoop", max_iters=2, val_interval=2)
    assert [(part.begin, part.end) for part in cfg.param_scheduler] == [(0, 1), (1, 2)]
    assert cfg.default_hooks.checkpoint == dict(type="X", by_epoch=False, interval=2)
    assert cfg.default_hooks.logger.interval == 1


def test_a_schedule_of_two_units():
    """Cascade's: a warm-up in iterations, then milestones in epochs."""
    cfg = load(CASCADE)
    shorten(cfg)
    warm, steps = cfg.param_scheduler
    assert (warm.begin, warm.end) == (0, 1)
    assert (steps.begin, steps.end, steps.milestones) == (0, 2, [1, 1])
    assert rates(cfg, 2)[1] < 0.011  # both milestones were passed


def test_what_slots_count_in_steps():
    cfg = short(dict(max_epochs=3), auto_scale_lr=dict(enable=True))
    assert "auto_scale_lr" not in cfg
    normalization = dict(type="mimseg.PHISNormalization", warmup_steps=100)
    teacher = dict(type="mimseg.EMATeacher", anneal_steps=30000)
    cfg.model = dict(objectives=[dict(normalization=normalization, teacher=teacher)])
    shorten(cfg)
    objective = cfg.model.objectives[0]
    assert objective.normalization.warmup_steps == 1 and objective.teacher.anneal_steps == 2
