"""What a resuming config may change about a run, and what it may not."""

import copy

import pytest
from mmengine.config import Config

from mimseg.engine.plan import compare_plans, facts
from mimseg.errors import UserError

CONFIG = dict(
    model=dict(
        type="mimseg.MaskedImageModeling",
        backbone=dict(type="mimseg.ViT", arch="mini", drop_path_rate=0.1),
        teacher=dict(type="mimseg.ViTTeacher", init="work_dirs/teacher"),
    ),
    optim_wrapper=dict(type="OptimWrapper", optimizer=dict(type="AdamW", lr=1e-3)),
    param_scheduler=[dict(type="LinearLR", end=5), dict(type="CosineAnnealingLR", end=20)],
    train_cfg=dict(by_epoch=False, max_iters=20, val_interval=20),
    train_dataloader=dict(
        batch_size=4,
        num_workers=2,
        dataset=dict(data_root="data/a", pipeline=[dict(type="Load"), dict(type="X", size=8)]),
    ),
    randomness=dict(seed=0),
    default_hooks=dict(checkpoint=dict(interval=10)),
)
FACTS = facts(processes=1, batch_size=4, samples=80, steps=None)


def compare(options, now=None, then=FACTS):
    before, after = Config(copy.deepcopy(CONFIG)), Config(copy.deepcopy(CONFIG))
    after.merge_from_dict(options)
    return compare_plans(before.pretty_text, after, then, now or FACTS, "iter_10.pth")


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"train_dataloader.num_workers": 0},
        {"train_cfg.val_interval": 5},
        {"default_hooks.checkpoint.interval": 1},
        {"model.backbone.init_cfg": dict(type="Pretrained", checkpoint="a.pth")},
        {"model.backbone.with_cp": True},
        {"randomness.seed": None},
    ],
)
def test_what_computes_the_same_is_not_mentioned(options):
    changes = compare(options)
    assert not changes.said and not changes.schedule


@pytest.mark.parametrize(
    ("options", "schedule"),
    [
        ({"train_cfg.max_iters": 40, "param_scheduler.1.end": 40}, True),
        ({"param_scheduler.1.end": 40}, True),
        ({"optim_wrapper.optimizer.lr": 5e-4}, True),
        ({"optim_wrapper.clip_grad": dict(max_norm=1.0)}, False),
        ({"optim_wrapper.type": "mimseg.AmpOptimWrapper"}, False),
        ({"train_dataloader.dataset.data_root": "data/b"}, False),
        ({"model.teacher.init": "elsewhere/teacher"}, False),
        ({"custom_hooks": [dict(type="EMAHook")]}, False),
    ],
)
def test_what_may_change_is_said(options, schedule):
    changes = compare(options)
    assert changes.schedule is schedule
    key = next(iter(options))
    assert any(line.startswith(key) for line in changes.said)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("model.backbone.drop_path_rate", 0.2),
        ("model.backbone.arch", "small"),
        ("model.teacher.type", "mimseg.PixelTeacher"),
        ("optim_wrapper.optimizer.type", "SGD"),
        ("optim_wrapper.accumulative_counts", 2),
        ("train_dataloader.dataset.pipeline.1.size", 16),
        ("train_dataloader.dataset.data_root", "b"),
        ("train_cfg.by_epoch", True),
        ("randomness.seed", 1),
    ],
)
def test_what_may_not_change_is_named(key, value):
    with pytest.raises(UserError) as error:
        compare({key: value})
    assert error.value.key == key and repr(value) in str(error.value)
    assert "iter_10.pth" in str(error.value)


def test_a_schedule_that_ended_with_the_run_is_to_follow_it():
    with pytest.raises(UserError, match=r"param_scheduler.1.end = 20: expected 40.*1.end=40"):
        compare({"train_cfg.max_iters": 40})
    warm_up = {"param_scheduler.0.end": 20, "param_scheduler.1.end": 40}  # the other one goes on
    assert compare({"train_cfg.max_iters": 40, **warm_up}).schedule


def test_images_per_step_stay():
    elastic = compare({"train_dataloader.batch_size": 2}, facts(2, 2, 80, None))
    assert elastic.said == ["processes were 1 and are 2"]
    with pytest.raises(UserError, match="4 images per step.*batch_size=2"):
        compare({}, facts(2, 4, 80, None))


def test_the_data_stay():
    with pytest.raises(UserError, match="81 images in the training set.*expected 80"):
        compare({}, facts(1, 4, 81, None))
    with pytest.raises(UserError, match="5 steps per epoch"):
        compare({}, facts(1, 4, 80, 5), facts(1, 4, 80, 6))


def test_code_in_the_text_is_not_run(tmp_path):
    marker = tmp_path / "marker"
    text = f"model = __import__('pathlib').Path({str(marker)!r}).touch()\n"
    changes = compare_plans(text, Config(copy.deepcopy(CONFIG)), None, FACTS, "x.pth")
    assert "no config that can be compared" in changes.said[0]
    assert not marker.exists()
