"""The learning rate follows the images per step: once, by default, and it is said."""

import pytest
from mmengine.config import Config

from mimseg.engine.scale_lr import scale_lr
from mimseg.errors import UserError


def config(base=4096, batch=64, schedule=None, **scaling):
    return Config(
        dict(
            optim_wrapper=dict(type="OptimWrapper", optimizer=dict(type="AdamW", lr=2.4e-3)),
            param_scheduler=schedule,
            train_dataloader=dict(batch_size=batch),
            auto_scale_lr=None if base is None else dict(base_batch_size=base, **scaling),
        )
    )


@pytest.mark.parametrize(
    ("processes", "batch", "counts"), [(1, 256, 1), (4, 64, 1), (1, 64, 4), (2, 32, 4)]
)
def test_processes_batch_and_accumulation_count(processes, batch, counts):
    cfg = config(batch=batch)
    cfg.optim_wrapper.accumulative_counts = counts
    rate = scale_lr(cfg, processes)
    assert cfg.optim_wrapper.optimizer.lr == rate.value == pytest.approx(1.5e-4)
    assert rate.images == 256
    assert str(rate) == "1.5e-4 (the config's 2.4e-3 for 4096 images per step, scaled to 256)"


def test_only_once():
    cfg = config(enable=True)
    scale_lr(cfg, 1)
    lr = cfg.optim_wrapper.optimizer.lr
    assert lr == pytest.approx(2.4e-3 / 64)
    assert not cfg.auto_scale_lr.get("enable")  # or mmengine would, without the accumulation
    assert str(scale_lr(cfg, 1)) == "3.75e-5"
    assert cfg.optim_wrapper.optimizer.lr == lr
    cfg.train_dataloader.batch_size = 128  # a config that a run wrote, with another batch
    scale_lr(cfg, 1)
    assert cfg.optim_wrapper.optimizer.lr == pytest.approx(2 * lr)


def test_what_schedulers_take_as_a_rate_follows():
    warm = dict(type="LinearLR", start_factor=1e-3, end=5)
    lists = dict(
        first=[warm, dict(type="CosineAnnealingLR", eta_min=1e-5)],
        second=dict(type="OneCycleLR", eta_max=0.1),
    )
    cfg = config(schedule=lists)
    scale_lr(cfg, 1)
    assert cfg.param_scheduler.first[0].to_dict() == warm
    assert cfg.param_scheduler.first[1].eta_min == pytest.approx(1e-5 / 64)
    assert cfg.param_scheduler.second.eta_max == pytest.approx(0.1 / 64)
    schedule = [
        dict(type="mmengine.PolyLR", eta_min=1e-6),
        dict(type="CosineAnnealingLR", eta_min_ratio=0.01),
        dict(type="ReduceOnPlateauLR", min_value=[1e-6, 2e-6]),
        dict(type="CosineAnnealingParamScheduler", param_name="lr", eta_min=1e-6),
        dict(type="CosineAnnealingMomentum", eta_min=0.9),
        dict(type="CosineAnnealingWeightDecay", eta_min=0.2),
        dict(type="CosineAnnealingParamScheduler", param_name="weight_decay", eta_min=0.2),
    ]
    cfg = config(schedule=schedule)
    scale_lr(cfg, 1)
    poly, cosine, plateau, named, *others = cfg.param_scheduler
    assert poly.eta_min == named.eta_min == pytest.approx(1e-6 / 64)
    assert cosine.eta_min_ratio == 0.01
    assert plateau.min_value == pytest.approx([1e-6 / 64, 2e-6 / 64])
    assert [dict(other) for other in others] == schedule[4:]


def test_the_written_rate_is_kept_where_asked_and_that_is_said():
    cfg = config(enable=False)
    assert str(scale_lr(cfg, 2)) == (
        "2.4e-3 as written (auto_scale_lr.enable=False): it is for 4096 images per step, and "
        "there are 128"
    )
    assert cfg.optim_wrapper.optimizer.lr == 2.4e-3
    assert cfg.auto_scale_lr.to_dict() == dict(base_batch_size=4096, enable=False)


def test_a_config_without_a_base_is_left_alone():
    for cfg in (config(base=None), config(base=64)):
        assert str(scale_lr(cfg, 1)) == "2.4e-3"
        assert cfg.optim_wrapper.optimizer.lr == 2.4e-3
    cfg = config()
    del cfg.optim_wrapper.optimizer["lr"]
    assert str(scale_lr(cfg, 1)) == "the optimizer's own"


@pytest.mark.parametrize("base", [0, -4, 2.5, "many"])
def test_a_base_that_is_no_number_of_images(base):
    with pytest.raises(UserError, match="auto_scale_lr.base_batch_size"):
        scale_lr(config(base=base), 1)
