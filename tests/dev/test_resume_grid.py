"""Runs that were interrupted and resumed equal unbroken ones bit for bit: a part of the grid."""

import signal

import pytest
import torch

from dev.resume_grid import cells, interrupt_of, run_cell
from dev.trial import RUNS, Interrupt, Trial, difference, equal, import_all, make_data, train_trial
from mimseg.checkpoints.files import find_resumable, read_checkpoint
from mimseg.engine.amp_optim_wrapper import bf16_supported
from mimseg.engine.signals import RESUMABLE


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    import_all()
    return make_data(tmp_path_factory.mktemp("grid") / "data")


@pytest.mark.parametrize(
    ("trial", "place"),
    [
        (Trial("mae", workers=2, accumulation=2), "middle"),
        (Trial("dbot"), "boundary"),
        (Trial("tinymim"), "middle"),
        (Trial("upernet", processes=2), "middle"),
        (Trial("upernet", workers=2, bf16=bf16_supported("cpu")), "boundary"),
        (Trial("mask-rcnn", accumulation=2), "middle"),
        (Trial("mae", processes=2, accumulation=4), "boundary"),  # between two optimizer steps
    ],
    ids=lambda value: getattr(value, "name", value),
)
def test_nothing_differs(trial, place, data, tmp_path):
    assert run_cell(trial, place, data, tmp_path) == ""


def test_the_grid_is_whole_and_interrupts_within_its_runs():
    assert len(set(cells())) == len(RUNS) * 2**5
    for trial, place in cells():
        interrupt, run = interrupt_of(trial, place), RUNS[trial.run]
        assert interrupt.stage in run.stages and interrupt.step % trial.accumulation in (0, 1)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=str)
def test_loader_processes_leave_a_signal_to_the_training(number, data, tmp_path):
    trial, run = Trial("mae", workers=2, accumulation=2), tmp_path / "run"
    interrupt = Interrupt("", 7, number, group=True)  # it has to read another batch
    assert train_trial(trial, data, run, interrupt=interrupt) == [RESUMABLE]
    log = (tmp_path / "run.log").read_text()
    assert log.count("saving after this step") == 1 and "Traceback" not in log
    assert (run / "step_8.pth").exists()


def test_a_run_that_ends_early_does_not_wait_for_its_loaders(data, tmp_path):
    options = {"optim_wrapper.optimizer.lr": 1e20}
    assert train_trial(Trial("mae", workers=2), data, tmp_path / "run", options=options) == [1]
    assert "diverged at step" in (tmp_path / "run.log").read_text()


def test_options_of_ddp_change_nothing(data, tmp_path):
    plain = {"gradient_as_bucket_view": False}
    for name, options in (("plain", plain), ("ours", {"static_graph": True})):
        options = {"model_wrapper_cfg": options}
        codes = train_trial(Trial("mae", processes=2), data, tmp_path / name, options=options)
        assert codes == [0, 0]
    assert difference(tmp_path / "plain", tmp_path / "ours") == ""


def test_a_static_graph_with_accumulation_is_refused(data, tmp_path):
    """torch 2.11 ends it in an internal assertion."""
    options = {"model_wrapper_cfg": {"static_graph": True}}
    trial = Trial("mae", processes=2, accumulation=2)
    assert train_trial(trial, data, tmp_path / "run", options=options) == [2, 2]
    log = (tmp_path / "run.log").read_text()
    assert "model_wrapper_cfg.static_graph = True: expected False with gradients" in log


def test_a_difference_is_seen(data, tmp_path):
    """The comparison can fail: another seed, and another value in a nest."""
    for name, seed in (("a", 0), ("b", 1)):
        options = {"randomness.seed": seed}
        assert train_trial(Trial("mae"), data, tmp_path / name, options=options) == [0]
    assert "weights" in difference(tmp_path / "a", tmp_path / "b")
    assert equal({"a": [torch.ones(2)]}, {"a": [torch.ones(2)]})
    assert not equal({"a": [torch.ones(2)]}, {"a": [torch.tensor([1.0, 1.0000001])]})
    assert not equal({"a": 1}, {"a": 1, "b": 2})


def test_another_number_of_processes_continues(data, tmp_path):
    """2 -> 1 -> 2 processes: the same samples, augmentations and masks; weights to rounding."""
    options = {"model.backbone.drop_path_rate": 0.0, "default_hooks.logger.interval": 1}
    whole, elastic = tmp_path / "whole", tmp_path / "elastic"
    assert train_trial(Trial("mae", processes=2), data, whole, options=options) == [0, 0]
    plan = [(2, Interrupt("", 4, signal.SIGTERM)), (1, Interrupt("", 8, signal.SIGTERM)), (2, None)]
    for part, (processes, interrupt) in enumerate(plan):
        codes = train_trial(
            Trial("mae", processes=processes), data, elastic, part > 0, interrupt, options
        )
        assert set(codes) == {RESUMABLE if interrupt else 0}
    one, two = (read_checkpoint(find_resumable(folder)) for folder in (whole, elastic))
    assert "processes were 1 and are 2" in (tmp_path / "elastic.log").read_text()
    start, one_state, two_state = (
        without_k_bias(checkpoint["state_dict"])
        for checkpoint in (read_checkpoint(whole / "epoch_1.pth"), one, two)
    )
    for name, value in one_state.items():
        torch.testing.assert_close(two_state[name], value, rtol=1e-3, atol=1e-5)
    assert difference(whole, elastic)  # it is not bit-equal, and not said to be
    # the tolerances are not met by chance
    key = "backbone.cls_token"
    assert not torch.allclose(start[key], one_state[key], rtol=1e-3, atol=1e-5)


def without_k_bias(state):
    """The k bias has no gradient but rounding, of which Adam makes steps."""
    biases = {name: v for name, v in state.items() if name.endswith("attn.qkv.bias")}
    return state | {name: torch.cat(v.chunk(3)[::2]) for name, v in biases.items()}
