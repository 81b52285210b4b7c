"""No parameter group's learning rate ever rises above the one it starts from."""

from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.optim import CosineAnnealingLR, OneCycleLR, PolyLR
from mmengine.registry import PARAM_SCHEDULERS

from mimseg.engine.layer_decay import check_floors
from mimseg.errors import UserError

from shipped import shipped_configs  # isort: skip

ROOT = Path(__file__).parents[2]
STEPS = 150  # what a run is shortened to


def optimizer_of(lr, decay, depths):
    """A group a depth, 0 the head's."""
    params = [torch.nn.Parameter(torch.zeros(1)) for _ in depths]
    scales = [decay**d for d in depths]
    groups = [
        {"params": [p], "lr": lr * s, "lr_scale": s} for s, p in zip(scales, params, strict=True)
    ]
    return torch.optim.SGD(groups)


def decaying():
    """Configs with layer decay, by name."""
    found = {}
    for path in shipped_configs():
        if {"_base_", "benchmark", "analysis"} & set(path.parts):
            continue
        cfg = Config.fromfile(path)
        if cfg.optim_wrapper.get("paramwise_cfg", {}).get("layer_decay_rate", 1) < 1:
            found[str(path.relative_to(ROOT / "configs"))] = cfg
    return found


def shortened(options, scale):
    """A scheduler's config in iterations, `scale` of its length."""
    options = {k: v for k, v in options.items() if k != "convert_to_iter_based"} | {
        "by_epoch": False
    }
    for key in ("begin", "end", "T_max"):
        if key in options:
            options[key] = round(options[key] * scale)
    if "milestones" in options:
        options["milestones"] = [round(m * scale) for m in options["milestones"]]
    return options


def test_every_config_with_layer_decay():
    configs = decaying()
    assert len(configs) > 15
    for name, cfg in configs.items():
        rate = cfg.optim_wrapper.paramwise_cfg.layer_decay_rate
        optimizer = optimizer_of(cfg.optim_wrapper.optimizer.lr, rate, (0, 1, 33))
        length = cfg.train_cfg.get("max_iters") or cfg.train_cfg.max_epochs
        schedulers = []
        for options in cfg.param_scheduler:
            by_epoch = options.get("by_epoch", True)
            steps = length if by_epoch == ("max_epochs" in cfg.train_cfg) else 1000 * length
            short = shortened(options, STEPS / steps)
            if short["end"] > short.get("begin", 0):  # else a warmup of less than a step
                schedulers.append(PARAM_SCHEDULERS.build(short | {"optimizer": optimizer}))
        check_floors(schedulers)
        start = [group.get("initial_lr", group["lr"]) for group in optimizer.param_groups]
        for _ in range(STEPS):
            rates = [group["lr"] for group in optimizer.param_groups]
            assert all(r <= s * (1 + 1e-6) for r, s in zip(rates, start, strict=True)), name
            ratios = [r / s for r, s in zip(rates, start, strict=True)]
            assert max(ratios) - min(ratios) < 1e-6, name  # groups keep their proportions
            optimizer.step()
            for scheduler in schedulers:
                scheduler.step()
        assert ratios[0] < 0.1, name  # it did fall


@pytest.mark.parametrize("kind", [PolyLR, CosineAnnealingLR])
def test_an_absolute_floor_above_a_group_is_told(kind):
    options = {"T_max": 10} if kind is CosineAnnealingLR else {}
    good = kind(optimizer_of(1e-3, 0.5, range(4)), eta_min=1e-4, end=10, by_epoch=False, **options)
    check_floors([good])
    bad = kind(optimizer_of(1e-3, 0.5, range(5)), eta_min=1e-4, end=10, by_epoch=False, **options)
    with pytest.raises(UserError) as caught:
        check_floors([good, bad])
    told = str(caught.value)
    assert told.startswith("param_scheduler[1].eta_min = 0.0001: expected at most 6.25e-05")
    assert "eta_min=0" in told
    assert ("eta_min_ratio=0.1 " in told) == (kind is CosineAnnealingLR)  # PolyLR has none
    for _ in range(12):
        bad.optimizer.step()
        bad.step()
    assert bad.optimizer.param_groups[-1]["lr"] > 6.25e-5  # what it is about


def test_one_rate_for_all_groups_is_told():
    def one_cycle(depths):
        optimizer = optimizer_of(1e-3, 0.5, depths)
        return OneCycleLR(optimizer, eta_max=1e-3, total_steps=10, by_epoch=False)

    check_floors([one_cycle([0])])
    cycle = one_cycle(range(3))
    with pytest.raises(UserError, match=r"param_scheduler\[0\].eta_max = 0.001.*Linear"):
        check_floors([cycle])
    rates = []
    for _ in range(5):
        cycle.optimizer.step()
        cycle.step()
        rates.append(cycle.optimizer.param_groups[-1]["lr"])
    assert max(rates) > 2.5e-4  # what it is about


def test_a_ratio_is_no_floor():
    scheduler = CosineAnnealingLR(
        optimizer_of(1e-3, 0.5, range(9)), T_max=10, eta_min_ratio=0.01, end=10, by_epoch=False
    )
    check_floors([scheduler])
