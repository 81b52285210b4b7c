"""Processes that differ or die are named."""

import os
import re
import signal
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from mmengine.dist import init_dist
from torch import nn

from dev.trial import Interrupt, Trial, fork, import_all, launch_trial, make_data
from mimseg.checkpoints import checksum
from mimseg.engine.checkpoint_hook import CheckpointHook
from mimseg.engine.ranks import EqualWeightsHook, WatchHook, _hash
from mimseg.engine.signals import RESUMABLE
from mimseg.errors import exit_code


def in_two(work, tmp_path, seconds=60):
    """Run a function of the rank in two gloo processes. Returns codes and output."""

    def start():
        init_dist("pytorch", backend="gloo")
        return exit_code(lambda: work(int(os.environ["RANK"])))

    codes = fork(2, start, tmp_path / "log").wait(seconds)
    return codes, (tmp_path / "log").read_text()


def test_a_bit_changes_the_hash():
    for dtype in (torch.float32, torch.bfloat16, torch.int64, torch.bool, torch.float64):
        tensor = torch.arange(6).to(dtype).view(2, 3)
        other = tensor.clone()
        other[1, 2] = other[1, 2] + 1 if dtype is not torch.bool else ~other[1, 2]
        assert _hash(tensor) == _hash(tensor.clone()) != _hash(other)


def test_values_in_other_places_change_the_hash():
    values = torch.tensor([1.0, 2.0, -2.0, -3.0])
    others = (values.flip(0), -values, values[[0, 2, 1, 3]])
    assert len({_hash(tensor) for tensor in (values, *others)}) == 4
    assert isinstance(_hash(values), int)  # tensors of a model may be on several devices


def test_different_weights_end_all_processes(tmp_path):
    def work(rank):
        model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2), nn.Linear(2, 2))
        torch.manual_seed(0)
        for parameter in model.parameters():
            nn.init.normal_(parameter)
        model[1].running_mean += rank  # each process's own
        runner = SimpleNamespace(model=model)
        EqualWeightsHook().before_train(runner)
        with torch.no_grad():
            model[2].weight[0, 0] += 1e-6 * rank
        EqualWeightsHook().after_train(runner)

    codes, log = in_two(work, tmp_path)
    assert codes == [1, 1]
    assert "at the end of the training rank 1 and rank 0 have different weights: 2.weight" in log


@pytest.mark.parametrize("number", [signal.SIGSTOP, signal.SIGKILL], ids=str)
def test_a_process_that_is_gone_is_named(number, tmp_path):
    def work(rank):
        hook = WatchHook(interval=0.1, dead=1.0)
        hook.before_train(None)
        for step in range(3):
            hook.after_train_iter(SimpleNamespace(iter=step))
        time.sleep(0.5)
        if rank == 1:
            os.kill(os.getpid(), number)
        time.sleep(20)  # in a collective, for all that is known here

    codes, log = in_two(work, tmp_path, seconds=6)  # one that is only stopped is then killed
    assert codes == [1, -signal.SIGKILL]
    assert "rank 1 (" in log and "has not been heard of for 1 s; the last was step 3" in log


def test_a_run_in_which_nothing_moves_says_where_it_is(tmp_path):
    def work(rank):
        hook = WatchHook(interval=0.1, dead=30, stuck=1.0)
        hook.before_train(None)
        hook.after_val_iter(SimpleNamespace(iter=7), batch_idx=rank)
        time.sleep(20)

    codes, log = in_two(work, tmp_path)
    assert codes == [1, 1] and "no process has made a step for 1 s" in log
    assert "step 7, batch 2 of a validation" in log and "time.sleep" not in log
    assert "in work" in log  # the stacks


def test_the_first_one_is_named_when_its_store_is_gone(tmp_path):
    def work(rank):
        hook = WatchHook(interval=0.1, dead=1.0)
        hook.before_train(None)
        hook.after_train_iter(SimpleNamespace(iter=6))
        time.sleep(0.5)
        if rank == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(20)

    codes, log = in_two(work, tmp_path)
    assert codes == [-signal.SIGKILL, 1]
    # whichever is noticed first: the store's silence or the heartbeat's
    gone = r"rank 0 \(.*\) (or its host is gone: |has not been heard of ).*; the last was step 7"
    assert re.search(gone, log)


def test_a_broken_connection_is_made_again(tmp_path):
    def work(rank):
        hook = WatchHook(interval=0.1, dead=1.0)
        hook.before_train(None)
        time.sleep(0.3)
        hook._store = None  # as after an error
        time.sleep(2)
        hook.close("well")
        return 0

    assert in_two(work, tmp_path)[0] == [0, 0]


def test_one_that_ends_first_is_not_missed(tmp_path):
    def work(rank):
        hook = WatchHook(interval=0.1, dead=0.6)
        hook.before_train(None)
        time.sleep(0.5 if rank == 1 else 2.5)
        hook.close("well")
        return 0

    assert in_two(work, tmp_path)[0] == [0, 0]


ENDS = {
    "killed": r"rank 1 \(.* has not been heard of for 1 s; the last was step 6: the run cannot",
    "failed": r"rank 1 \(.* ended with an error; the last was step 6: the run cannot go on",
    "hung": r"no process has made a step for 2 s:\n  rank 0 \(.*\): step .*\n  rank 1 \(.*: step 6",
}


@pytest.mark.parametrize("end", ENDS)
def test_a_training_names_the_process_that_is_gone(end, tmp_path):
    import_all()
    data = make_data(tmp_path / "data")

    def end_the_last():
        interval, step = WatchHook.__init__.__defaults__[0] / 25, WatchHook.after_train_iter
        WatchHook.__init__.__defaults__ = (interval, *WatchHook.__init__.__defaults__[1:])

        def ended(hook, runner, *args, **kwargs):
            step(hook, runner, *args, **kwargs)
            if runner.iter == 5 and os.environ["RANK"] == "1":
                time.sleep(3 * interval)
                if end == "killed":
                    os.kill(os.getpid(), signal.SIGKILL)
                if end == "failed":
                    raise ValueError("in this process alone")
                time.sleep(100)

        WatchHook.after_train_iter = ended

    # a collective's own timeout must not come first
    options = {"env_cfg.dist_cfg.timeout": 2} if end == "hung" else {}
    launch = launch_trial(
        Trial("mae", processes=2), data, tmp_path / "run", options=options, before=end_the_last
    )
    assert launch.wait(60) == [1, -signal.SIGKILL if end == "killed" else 1]
    log = (tmp_path / "run.log").read_text()
    assert re.search(ENDS[end], log), log
    assert end != "killed" or "Traceback" not in log


def test_a_stopped_run_is_whole_before_any_process_ends(tmp_path):
    """torchrun and srun end all processes with the first one."""
    import_all()
    data = make_data(tmp_path / "data")

    def watch_the_last():
        write, stop = checksum.write_checksum, CheckpointHook._stop

        def slow(*args):
            time.sleep(1.5)
            write(*args)

        def stopped(hook, runner, done):
            try:
                stop(hook, runner, done)
            finally:
                names = sorted(path.name for path in Path(runner.work_dir).glob("st*p*"))
                print(f"rank {os.environ['RANK']} ends with {names}")

        checksum.write_checksum, CheckpointHook._stop = slow, stopped

    codes = launch_trial(
        Trial("mae", processes=2),
        data,
        tmp_path / "run",
        interrupt=Interrupt("", 4, signal.SIGTERM),
        before=watch_the_last,
    ).wait(60)
    assert codes == [RESUMABLE, RESUMABLE]
    files = "['step_4.pth', 'step_4.pth.sha256', 'stopped.json']"
    assert f"rank 1 ends with {files}" in (tmp_path / "run.log").read_text()
