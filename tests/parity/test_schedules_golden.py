"""The recipes' learning rates are the official tables."""

from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import PARAM_SCHEDULERS

from golden import Case, needs_golden  # isort: skip

CONFIGS = Path(__file__).parents[2] / "configs"
RECIPES = {
    "dbot_stage": "dbot/dbot_vit-base-p16_32xb128-amp-2x800e_in1k.py",
    "tinymim": "tinymim/tinymim_vit-base-p16_32xb128-amp-300e_in1k.py",
}
PER_EPOCH = 4


@needs_golden
@pytest.mark.parametrize("name", RECIPES)
def test_learning_rates(name):
    table = Case(name).case["lists"]["lr_schedule"]
    table = table if "rows" in table else next(iter(table.values()))  # one table a list of stages
    cfg = Config.fromfile(CONFIGS / RECIPES[name])
    wrapper = build_optim_wrapper(
        torch.nn.Linear(1, 1), dict(type="OptimWrapper", optimizer=cfg.optim_wrapper.optimizer)
    )
    schedulers = [
        PARAM_SCHEDULERS.build(dict(options, optimizer=wrapper, epoch_length=PER_EPOCH))
        for options in cfg.param_scheduler
    ]
    rates = []
    for _ in range(cfg.train_cfg.max_epochs * PER_EPOCH):
        rates.append(wrapper.get_lr()["lr"][0])
        for scheduler in schedulers:
            scheduler.step()
    rows = [row for row in table["rows"] if row.get("stage_index", 0) == 0]
    rows = [row for row in rows if (row["epoch"] * PER_EPOCH) % 1 == 0]
    assert len(rows) > 4
    step = table["lr"] / (table["warmup_epochs"] * PER_EPOCH)  # one iteration of the warm-up
    for row in rows:
        rate = rates[int(row["epoch"] * PER_EPOCH)]
        assert rate == pytest.approx(row["lr"], abs=step), row
