"""tools/slurm.sbatch, with stand-ins for srun and scontrol."""

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "tools/slurm.sbatch"
# srun, as far as the script goes: it hands SIGUSR1 on, kills its processes on SIGTERM, and gives
# the highest code of its processes
SRUN = """#!/bin/bash
echo "$@" > "$LOGS/srun"
trap 'code=$ON_SIGNAL' USR1
trap 'exit 137' TERM
code=$CODE
echo ready >> "$LOGS/ready"
for _ in $(seq 1 $WAIT); do sleep 0.05; [ "$code" != "$CODE" ] && break; done
[ -n "$STOPPED" ] && echo '{}' > "$STOPPED"
exit $code
"""


@pytest.fixture
def start(tmp_path):
    scontrol = '#!/bin/bash\necho "$@" > "$LOGS/scontrol"\nexit $REFUSED\n'
    squeue = '#!/bin/bash\necho "$STATE"\n'
    (tmp_path / "bin").mkdir()
    for name, text in (("srun", SRUN), ("scontrol", scontrol), ("squeue", squeue)):
        (tmp_path / "bin" / name).write_text(text)
        (tmp_path / "bin" / name).chmod(0o755)
    (tmp_path / "run").mkdir()

    def start(code, on_signal=75, wait=0, stopped="", state="RUNNING", refused=0):
        values = dict(CODE=code, ON_SIGNAL=on_signal, WAIT=wait, STOPPED=stopped)
        values |= dict(STATE=state, REFUSED=refused)
        env = os.environ | {key: str(value) for key, value in values.items()}
        env |= dict(
            LOGS=str(tmp_path), PATH=f"{tmp_path}/bin:{os.environ['PATH']}", SLURM_JOB_ID="7"
        )
        command = ["bash", SCRIPT, "CONFIG", tmp_path / "run", "--amp"]
        return subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True)

    return start


def test_a_finished_run_is_not_queued_again(start, tmp_path):
    assert start(0).wait(10) == 0
    assert not (tmp_path / "scontrol").exists()
    words = (tmp_path / "srun").read_text().split()
    assert words[1:4] == ["mimseg", "train", "CONFIG"] and "--resume" in words
    assert words[-1] == "--amp" and "slurm" in words


def test_a_run_that_failed_is_not_queued_again(start, tmp_path):
    assert start(1).wait(10) == 1
    assert not (tmp_path / "scontrol").exists()


def test_a_run_that_was_stopped_is_queued_again(start, tmp_path):
    assert start(75).wait(10) == 0
    assert (tmp_path / "scontrol").read_text() == "requeue 7\n"


@pytest.mark.parametrize("state", ["CANCELLED", "COMPLETING"])
def test_a_job_that_was_cancelled_stays_so(start, tmp_path, state):
    assert start(75, state=state).wait(10) == 75
    assert not (tmp_path / "scontrol").exists()


def test_a_job_that_cannot_be_queued_again_does_not_look_finished(start):
    assert start(75, refused=1).wait(10) == 75


def test_a_hidden_code_is_read_from_the_work_dir(start, tmp_path):
    (tmp_path / "run/stage1").mkdir()
    for path in (tmp_path / "run/stopped.json", tmp_path / "run/stage1/stopped.json"):
        path.write_text("{}")  # of an earlier stop
        assert start(1).wait(10) == 1 and not path.exists()
        assert start(1, stopped=path).wait(10) == 0
        (tmp_path / "scontrol").unlink()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1], ids=str)
def test_a_signal_to_the_shell_reaches_the_step(start, tmp_path, number):
    process = start(0, wait=200)
    while not (tmp_path / "ready").exists():
        time.sleep(0.02)
    process.send_signal(number)
    assert process.wait(10) == 0
    assert (tmp_path / "scontrol").read_text() == "requeue 7\n"
