"""A run that is sharded over processes (FSDP2) trains and resumes as one that is not."""

import re
import signal

import pytest
import torch

from dev.trial import Interrupt, Trial, difference, import_all, make_data, train_trial
from mimseg.checkpoints.files import find_resumable, read_checkpoint
from mimseg.engine.amp_optim_wrapper import bf16_supported
from mimseg.engine.signals import RESUMABLE

TWO = Trial("mae", processes=2)
OPTIONS = {"model.backbone.drop_path_rate": 0.0}
FSDP = OPTIONS | {"fsdp": True}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    import_all()
    return make_data(tmp_path_factory.mktemp("sharding") / "data")


@pytest.fixture(scope="module")
def whole(data, tmp_path_factory):
    """A run of two processes without sharding."""
    out = tmp_path_factory.mktemp("sharding") / "whole"
    assert train_trial(TWO, data, out, options=OPTIONS) == [0, 0]
    return out


def close(one, two):
    one, two = (read_checkpoint(find_resumable(folder)) for folder in (one, two))
    assert one["meta"]["iter"] == two["meta"]["iter"]
    for name, value in one["state_dict"].items():
        if not name.endswith("attn.qkv.bias"):  # of which k's third has no gradient but rounding
            torch.testing.assert_close(two["state_dict"][name], value, rtol=1e-3, atol=1e-5)
    return one, two


def test_it_trains_as_without_and_resumes_in_any_way(data, whole, tmp_path):
    run, stop = tmp_path / "run", Interrupt("", 4, signal.SIGTERM)
    assert train_trial(TWO, data, run, False, stop, FSDP) == [RESUMABLE] * 2
    share, total = re.search(
        r"sharded +([\d.]+) M of ([\d.]+) M", (tmp_path / "run.log").read_text()
    ).groups()
    assert float(share) == pytest.approx(float(total) / 2, rel=0.1)
    # resumed unsharded by one process, then sharded by two
    stop = Interrupt("", 8, signal.SIGTERM)
    assert train_trial(Trial("mae"), data, run, True, stop, OPTIONS) == [RESUMABLE]
    assert train_trial(TWO, data, run, True, None, FSDP) == [0, 0]
    one, two = close(whole, run)
    assert two["optimizer"]["state"].keys() == one["optimizer"]["state"].keys()
    moments = (c["optimizer"]["state"][5]["exp_avg"] for c in (one, two))
    torch.testing.assert_close(*moments, rtol=1e-2, atol=1e-5)
    torch.load(find_resumable(run), weights_only=True)


def test_a_sharded_run_is_resumed_bit_for_bit(data, tmp_path):
    assert train_trial(TWO, data, tmp_path / "whole", options=FSDP) == [0, 0]
    run, stop = tmp_path / "run", Interrupt("", 8, signal.SIGTERM)
    assert train_trial(TWO, data, run, False, stop, FSDP) == [RESUMABLE] * 2
    assert train_trial(TWO, data, run, True, None, FSDP) == [0, 0]
    assert difference(tmp_path / "whole", run) == ""


def test_a_stage_hands_a_sharded_student_over(data, tmp_path):
    trial = Trial("dbot", processes=2)
    short = {"train_cfg.max_epochs": 1}
    for name, options in (("whole", OPTIONS), ("sharded", FSDP)):
        assert train_trial(trial, data, tmp_path / name, options=options | short) == [0, 0]
    close(tmp_path / "whole/stage2", tmp_path / "sharded/stage2")


def test_gradients_on_their_way_are_saved_whole(data, tmp_path):
    """An epoch of 6 steps ends between two optimizer steps where 4 are accumulated."""
    trial, kill = Trial("mae", processes=2, accumulation=4), Interrupt("", 7, signal.SIGKILL)
    assert train_trial(trial, data, tmp_path / "whole", options=OPTIONS) == [0, 0]
    run = tmp_path / "run"
    assert train_trial(trial, data, run, False, kill, FSDP) == [-signal.SIGKILL] * 2
    assert train_trial(trial, data, run, True, None, FSDP) == [2, 2]  # refused, by name
    assert "gradients under way" in (tmp_path / "run.log").read_text()
    assert train_trial(trial, data, run, True, None, OPTIONS) == [0, 0]
    close(tmp_path / "whole", run)


@pytest.mark.skipif(not bf16_supported("cpu"), reason="no bfloat16 on this CPU, nor a GPU")
def test_mixed_precision(data, tmp_path):
    trial = Trial("mae", processes=2, bf16=True)
    short = {"train_cfg.max_epochs": 1}
    losses = []
    for name, options in (("whole", OPTIONS), ("sharded", FSDP)):
        assert train_trial(trial, data, tmp_path / name, options=options | short) == [0, 0]
        logs = read_checkpoint(find_resumable(tmp_path / name))["message_hub"]["log_scalars"]
        losses.append(logs["train/loss"]["values"])
    assert losses[1] == pytest.approx(losses[0], rel=2e-2)


@pytest.mark.parametrize(
    ("trial", "options", "words"),
    [
        (Trial("mae"), FSDP, "expected several processes"),
        (TWO, FSDP | {"custom_hooks": [dict(type="EMAHook")]}, "EMAHook follows the student"),
    ],
    ids=["one process", "averaged copy"],
)
def test_what_cannot_be_sharded_is_refused(data, tmp_path, trial, options, words):
    assert set(train_trial(trial, data, tmp_path / "run", options=options)) == {2}
    assert words in (tmp_path / "run.log").read_text()
