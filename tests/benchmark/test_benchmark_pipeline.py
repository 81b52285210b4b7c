"""Steps are kept, resumed, run again, stopped and locked as promised."""

import json
import os
import random
import re
import signal
import time
from pathlib import Path

import pytest

from mimseg.files import write_json
from mimseg.pipeline.pipeline import Pipeline
from mimseg.pipeline.places import Places
from mimseg.pipeline.progress import Estimator, budget, fraction, tails
from mimseg.pipeline.step import Step

SMALL = ('inits = ["random", "mae"]', 'inits = ["mae"]')


def processes_of(root: Path) -> list[str]:
    """Command lines of live processes that name the folder, this one's left out."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = path.read_bytes().replace(b"\0", b" ").decode()
        except OSError:
            continue
        if str(root) in line and path.parent.name != str(os.getpid()):
            found.append(line)
    return found


def wait_until(condition, seconds=20.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


def test_a_second_run_keeps_everything(repository):
    repository.edit(*SMALL)
    assert repository.run()[0] == 0
    repository.calls()
    code, output = repository.run()
    assert code == 0 and "kept 11 finished steps" in output
    assert repository.calls() == []


def test_killed_at_random_moments_it_goes_on_each_time(repository):
    """SIGKILL of the runner: nothing is left behind, nothing finished is repeated."""
    repository.edit(*SMALL)
    for name in ("mae", "seg", "det"):
        repository.config(name, iters=4, delay=0.15)
    rng = random.Random(0)
    finished, resumed = set(), 0
    for _ in range(5):
        process = repository.start()
        wait_until(repository.calls_file.exists)
        time.sleep(rng.uniform(0.1, 1.0))
        process.send_signal(signal.SIGKILL)
        process.wait()
        wait_until(lambda: not processes_of(repository.work_dir), 3)
        calls = repository.calls()
        assert not finished & {name for name, _, _ in calls}
        for number, (_, again, _) in enumerate(calls):
            assert again <= (number == 0)  # only the step that was cut off resumes
            resumed += again
        finished = {
            path.parent.name
            for path in repository.work_dir.glob("*/step.json")
            if repository.step(path.parent.name)["returncode"] == 0
        }
    code, output = repository.run()
    assert code == 0, output
    assert resumed >= 3
    for name in ("pretrain-mae", "semseg-mae-lr0.01-seed0"):  # no iteration ran twice
        logs = (repository.work_dir / name).glob("*/vis_data/scalars.json")
        lines = "".join(path.read_text() for path in logs)
        assert all(lines.count(f'"iter": {i},') == 1 for i in (1, 2, 3, 4))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_the_children_and_says_how_to_go_on(repository, number):
    repository.config("mae", iters=100, delay=0.1)
    process = repository.start("--workers", "2")
    wait_until(repository.calls_file.exists)
    process.send_signal(number)
    output, _ = process.communicate(timeout=20)
    assert process.returncode == 128 + number and "continues from here" in output
    assert processes_of(repository.work_dir) == []
    assert repository.step("pretrain-mae")["returncode"] == 128 + signal.SIGTERM


def test_a_grandchild_dies_with_the_runner(repository):
    code = (
        "import subprocess, sys; subprocess.run([sys.executable, '-c', sys.argv[1], sys.argv[2]])"
    )
    inner = "import time; time.sleep(60)"
    repository.edit(
        "\"-c\", \"open(r'{dir}/made', 'w')\"]", f'"-c", {code!r}, {inner!r}, "{{dir}}"]'
    )
    process = repository.start()
    wait_until(lambda: len(processes_of(repository.work_dir)) >= 4)  # runner, keeper, two of ours
    process.kill()
    process.wait()
    wait_until(lambda: not processes_of(repository.work_dir), 3)


def test_a_failed_step_stops_everything_and_names_its_log(repository):
    repository.fail.write_text("semseg-random-lr0.01")
    code, output = repository.run()
    assert code == 1
    log = repository.work_dir / "semseg-random-lr0.01-seed0/log.txt"
    assert f"step semseg-random-lr0.01-seed0 failed (exit code 1); its log: {log}" in output
    assert "the network is on fire" in output and "Traceback" not in output
    assert not (repository.work_dir / "report.json").exists()
    page = (repository.work_dir / "report.html").read_text()
    folders = [path.parent.name for path in repository.work_dir.glob("*/step.json")]
    finished = sum(repository.step(name)["returncode"] == 0 for name in folders)
    assert "is not finished" in page and f"{finished} of 20 steps are finished." in page
    repository.calls()
    repository.fail.unlink()
    assert repository.run()[0] == 0
    assert repository.calls()[0][:2] == ["semseg-random-lr0.01-seed0", True]
    assert log.read_text().count("\n$ ") == 1


def test_a_step_that_does_not_write_what_it_promises_fails(repository):
    repository.edit('outputs=["made"]', 'outputs=["other"]')
    code, output = repository.run()
    assert code == 1 and "prepare-data failed" in output and "did not write other" in output


def test_a_changed_config_runs_its_step_and_what_needs_it_again(repository):
    repository.edit(*SMALL)
    assert repository.run()[0] == 0
    repository.calls()
    repository.config("det", bonus=7)
    code, output = repository.run()
    assert code == 0
    again = {name for name, _, _ in repository.calls()}
    assert again == {
        "detection-mae-lr1e-3-seed0",
        "detection-mae-seed1",
        "detection-mae-seed0-test",
        "detection-mae-seed1-test",
    }
    assert "detection-mae-lr1e-3-seed0 runs again: configs/det.py changed" in output
    repository.config("mae", bonus=1)  # the others build on it: all of them again
    code, output = repository.run()
    assert "detection-mae-seed1 runs again: it builds on pretrain-mae" in output
    calls = repository.calls()
    assert len(calls) == 10 and not any(resumed for _, resumed, _ in calls)


def test_a_comment_in_a_config_changes_nothing_and_a_lost_output_does(repository):
    repository.edit(*SMALL)
    assert repository.run()[0] == 0
    repository.calls()
    path = repository.root / "configs/seg.py"
    path.write_text("# a comment\n" + path.read_text())
    (repository.work_dir / "semseg-mae-seed0-test/test.json").unlink()
    code, output = repository.run()
    assert "semseg-mae-seed0-test runs again: test.json is gone" in output
    assert [name for name, _, _ in repository.calls()] == ["semseg-mae-seed0-test"]


def test_a_new_grid_point_leaves_the_old_runs_alone(repository):
    repository.edit(*SMALL)
    assert repository.run()[0] == 0
    repository.calls()
    repository.edit("dict(lr=1e-2)]", "dict(lr=1e-2), dict(lr=1e-1)]")
    assert repository.run()[0] == 0
    assert {name for name, _, _ in repository.calls()} == {
        "semseg-mae-lr0.1-seed0",  # wins, so the other seed and the tests follow it
        "semseg-mae-seed1",
        "semseg-mae-seed0-test",
        "semseg-mae-seed1-test",
    }


def test_two_runners_on_one_folder_are_refused(repository):
    repository.config("mae", iters=100, delay=0.1)
    first = repository.start()
    try:
        wait_until(repository.calls_file.exists)
        code, output = repository.run()
        assert code == 2 and f"process {first.pid} does" in output and "--work-dir" in output
    finally:
        first.terminate()
        first.communicate()


def test_workers_share_the_cores_and_run_at_once(repository, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2, 3})
    for name in ("seg", "det"):
        repository.config(name, delay=0.3)
    code, output = repository.run("--workers", "4", "--seeds", "0")
    assert code == 0
    assert {threads for _, _, threads in repository.calls()} == {"1", ""}
    lines = output.splitlines()
    last_start = max(i for i, line in enumerate(lines) if "lr0.01-seed0 started" in line)
    ends = [i for i, line in enumerate(lines) if "semseg" in line and "seed0 finished" in line]
    assert last_start < max(ends)


def test_a_folder_of_somebody_else_is_not_emptied(repository):
    mine = repository.work_dir / "pretrain-mae/thesis.txt"
    mine.parent.mkdir(parents=True)
    mine.write_text("years of work")
    code, output = repository.run()
    assert code == 1 and "pretrain-mae" in output and mine.read_text() == "years of work"


def test_an_estimate_comes_from_the_kind_then_from_the_guess():
    estimator = Estimator({"semseg": 100})
    assert estimator.seconds("semseg") == 100 and estimator.seconds("semseg-test") == 25
    estimator.add("semseg", 10)
    estimator.add("semseg", 20)
    assert estimator.seconds("semseg") == 15
    assert estimator.left("semseg", 6, None) == 9
    assert estimator.left("semseg", 600, 0.2) == 12  # of the kind's 15 seconds
    assert estimator.left("detection", 6, 0.25) == 18  # nothing known: as it went so far


def test_a_guess_follows_the_pace_of_the_machine():
    estimator = Estimator({"data": 10, "semseg": 100, "detection": 200})
    estimator.add("data", 20)  # twice as slow as where the guesses come from
    assert estimator.pace == 2 and estimator.seconds("detection") == 400
    assert estimator.seconds("semseg-test") == 50
    estimator.project("semseg", 30, 0.1)  # too early to say
    assert estimator.pace == 2
    estimator.project("semseg", 105, 0.25)  # 420 seconds where 100 were guessed
    assert estimator.seconds("detection") == 200 * (20 + 420) / 110
    estimator.add("semseg", 310)
    assert estimator.seconds("semseg") == 310 and estimator.pace == 3
    assert Estimator().seconds("anything") == 60


def test_lines_say_the_work_done_the_time_left_losses_and_metrics(repository, monkeypatch):
    monkeypatch.setattr("mimseg.pipeline.pipeline.REFRESH", 0.3)
    repository.edit(*SMALL)
    repository.config("mae", iters=4, delay=0.4)
    code, output = repository.run("--seeds", "0")
    assert code == 0
    assert re.search(r"^about \d+ (seconds|minutes) left", output, re.M)
    place, left = r"^\[\d+/\d+\] \d+%", r"\d\d:\d\d left$"
    running = rf"{place}: pretrain-mae \(\d+%, loss \d\S*\), {left}"
    assert re.search(running, output, re.M), output
    finished = rf"{place}: pretrain-mae finished in \d\d:\d\d \(loss 1.25\), {left}"
    assert re.search(finished, output, re.M), output
    assert re.search(r"lr1e-3-seed0 .* \(mIoU 45.1 on the validation split\)", output), output
    assert re.search(r"seed0-test .* \(mask AP 44.6 on the test split\)", output), output
    shares = [int(n) for n in re.findall(r"^\[\d+/\d+\] (\d+)%", output, re.M)]
    assert shares[0] == 0 and shares[-1] == 100


def test_an_urgent_step_starts_before_a_longer_one(tmp_path):
    steps = [Step("long", [], kind="long"), Step("soon", [], kind="short", urgent=True)]
    pipeline = Pipeline(steps, Places(tmp_path, tmp_path), estimates=dict(long=100, short=1))
    assert [step.name for step in pipeline.ready()] == ["soon", "long"]


def test_steps_share_compiled_modules_where_python_must_not_write_them(repository, monkeypatch):
    """Otherwise each step of a real benchmark compiles thousands of modules again."""
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    monkeypatch.delenv("PYTHONPYCACHEPREFIX", raising=False)
    code = "import json, sys; open(sys.argv[1], 'w').write(json.dumps([sys.dont_write_bytecode,"
    code += " sys.pycache_prefix]))"
    repository.edit("\"open(r'{dir}/made', 'w')\"]", f'{code!r}, "{{dir}}/made"]')
    repository.edit(*SMALL)
    assert repository.run("--seeds", "0")[0] == 0
    never, folder = json.loads((repository.work_dir / "prepare-data/made").read_text())
    assert never is False and Path(folder).parent == repository.work_dir
    assert not Path(folder).exists()  # it is large, and of no use once all is done


def test_the_share_done_is_read_from_the_logs_of_stages(tmp_path):
    totals = {"one": {"iter": 10}, "two": {"epoch": 4}}
    assert fraction(tmp_path, totals) == 0
    write_json(tmp_path / "one/done.json", {})
    logs = tmp_path / "two/20260101/vis_data"
    logs.mkdir(parents=True)
    (logs / "scalars.json").write_text(
        '{"loss": 1, "epoch": 3, "iter": 9}\n{"mIoU": 2, "step": 9}\n{"loss": '
    )
    assert fraction(tmp_path, totals) == pytest.approx((1 + 3 / 4) / 2)


def test_the_budget_knows_stages_and_options(tmp_path):
    (tmp_path / "c.py").write_text(
        "train_cfg = dict(max_iters=10)\n"
        "stages = [dict(name='a'), dict(name='b', options={'train_cfg.max_iters': 4})]\n"
    )
    step = Step("s", [], config="c.py", options={"train_cfg.max_iters": 6})
    assert budget(step, Places(tmp_path, tmp_path)) == {"a": {"iter": 6}, "b": {"iter": 4}}


def test_the_longest_chain_counts_from_each_step():
    steps = [Step("a", []), Step("b", [], needs=["a"]), Step("c", [], after=["a"])]
    assert tails(steps, {"a": 1, "b": 5, "c": 2}) == {"a": 6, "b": 5, "c": 2}
