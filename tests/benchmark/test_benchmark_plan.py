"""The order of the steps, the choice, and the commands."""

import json
import math
from pathlib import Path

import pytest
from mmengine.config import Config

from mimseg.benchmark.config import subset
from mimseg.benchmark.grid import cfg_values, choose, point_name, point_options, read_metric
from mimseg.benchmark.plan import Plan
from mimseg.errors import UserError
from mimseg.pipeline.places import Places
from mimseg.recipes.configs import CONFIGS


def test_a_whole_benchmark_runs_each_step_once_and_tests_only_the_chosen_point(repository):
    code, output = repository.run()
    assert code == 0, output
    called = [name for name, _, _ in repository.calls()]
    assert len(called) == len(set(called)) == 19
    trained = {name for name in called if not name.endswith("-test")}
    assert trained == {
        "pretrain-mae",
        *(f"semseg-{init}-lr{lr}-seed0" for init in ("random", "mae") for lr in ("1e-3", "0.01")),
        *(f"detection-{init}-lr1e-3-seed0" for init in ("random", "mae")),
        *(f"{task}-{init}-seed1" for task in ("semseg", "detection") for init in ("random", "mae")),
    }
    for name in called:  # the fake's score rises with lr, so 0.01 is the point that is tested
        command = repository.step(name)["command"]
        if name == "semseg-mae-seed0-test":
            assert "{work_dir}/semseg-mae-lr0.01-seed0" in command
        if name == "semseg-mae-seed1":
            assert command.endswith("--cfg-options randomness.seed=1 lr=0.01")
            assert "--init {work_dir}/pretrain-mae" in command
        if name.startswith("semseg-random"):
            assert "--init" not in command
    choice = json.loads((repository.work_dir / "choices/semseg-mae/choice.json").read_text())
    assert choice["chosen"] == 1
    assert [item["value"] for item in choice["grid"]] == pytest.approx([45.1, 46.0])
    assert all(
        called.index(f"semseg-random-lr{lr}-seed0") < called.index("semseg-random-seed1")
        for lr in ("1e-3", "0.01")
    )


def test_a_diverged_run_is_never_chosen_and_the_first_of_equals_is(tmp_path):
    runs = []
    for number, value in enumerate([math.nan, 3.0, 3.0]):
        folder = tmp_path / str(number)
        folder.mkdir()
        (folder / "done.json").write_text(json.dumps({"metrics": {"mIoU": value}}))
        runs.append(({"lr": number}, folder))
    assert choose(runs, "mIoU", tmp_path / "choice.json") == 1
    assert json.loads((tmp_path / "choice.json").read_text())["grid"][0]["value"] is None


@pytest.mark.parametrize("metrics", [None, {"other": 1.0}, {"mIoU": "high"}, {"mIoU": -1.0}])
def test_a_metric_that_is_no_score_is_refused_by_name(tmp_path, metrics):
    (tmp_path / "test.json").write_text(json.dumps({"metrics": metrics}))
    with pytest.raises(UserError, match="test.json"):
        read_metric(tmp_path / "test.json", "mIoU")


def test_a_detector_that_found_nothing_scores_zero(tmp_path):
    (tmp_path / "test.json").write_text(json.dumps({"metrics": {}}))
    assert read_metric(tmp_path / "test.json", "coco/bbox_mAP") == 0.0


def test_nothing_to_measure_is_no_score(tmp_path):
    (tmp_path / "test.json").write_text(json.dumps({"metrics": {"mIoU": None}}))
    with pytest.raises(UserError, match="nothing of any class was there to measure"):
        read_metric(tmp_path / "test.json", "mIoU")


def test_points_are_named_as_people_write_them():
    assert point_name({"lr": 5e-4, "layer_decay": 0.75}) == "lr5e-4-layer_decay0.75"
    assert point_name({"lr": 1.5e-3, "decay": 1.0, "iters": 600}) == "lr1.5e-3-decay1-iters600"


def test_a_grid_key_may_set_several_config_keys_and_an_unknown_one_is_refused():
    task = {"grid_keys": {"lr": ["a.lr", "b.lr"]}}
    assert point_options(task, {"lr": 0.1}) == {"a.lr": 0.1, "b.lr": 0.1}
    with pytest.raises(UserError, match="decay"):
        point_options(task, {"decay": 0.1})


def test_options_survive_mmengines_parser():
    import argparse

    from mmengine.config import DictAction

    options = {"a.lr": 5e-4, "b": [1, 2], "c": (0.9, 0.95), "d": "x/y-z", "e": True, "f": None}
    parser = argparse.ArgumentParser()
    parser.add_argument("--cfg-options", nargs="+", action=DictAction)
    assert parser.parse_args(["--cfg-options", *cfg_values(options)]).cfg_options == options
    for text in ("x,y", "x y"):  # the parser would make a list of the one, join the other
        with pytest.raises(UserError, match="comma"):
            cfg_values({"a": text})


def test_placeholders_are_filled_and_taken_back(tmp_path):
    places = Places(tmp_path, tmp_path / "out", tmp_path / "data", python="/usr/bin/python9")
    filled = places.fill(["{python}", "{work_dir}/a", {"k": "{data_root}/b"}, 3])
    assert filled == ["/usr/bin/python9", f"{tmp_path}/out/a", {"k": f"{tmp_path}/data/b"}, 3]
    assert places.readable(filled[:2]) == "python {work_dir}/a"
    with pytest.raises(UserError, match="data-root"):
        Places(tmp_path, tmp_path).fill("{data_root}")


def test_a_command_is_a_tool_of_the_checkout_and_a_module_elsewhere(tmp_path):
    checkout = Places(tmp_path, tmp_path / "out", python="py")
    assert checkout.argv(["mimseg", "train", "{work_dir}"]) == [
        *("py", "tools/train.py", f"{tmp_path}/out")
    ]
    for name, tool in {"scenes": "make_scenes", "masks2coco": "masks_to_coco"}.items():
        assert checkout.argv(["mimseg", name]) == ["py", f"tools/data/{tool}.py"]
    elsewhere = Places(tmp_path, tmp_path / "out", python="py", checkout=False)
    assert elsewhere.argv(["mimseg", "scenes", "x"]) == ["py", "-m", "mimseg.cli", "scenes", "x"]
    assert elsewhere.argv(["tar", "-xf", "{dir}"], dir="a") == ["tar", "-xf", "a"]


def test_a_config_is_one_below_the_root_or_a_shipped_one(tmp_path):
    places = Places(tmp_path, tmp_path / "out")
    name = "configs/mae/mae_vit-mini-p8_1xb64-40e_scenes.py"
    assert places.config(name) == str(CONFIGS.parent / name)
    (tmp_path / name).parent.mkdir(parents=True)
    (tmp_path / name).touch()
    assert places.config(name) == str(tmp_path / name)
    with pytest.raises(UserError, match="name of a shipped config"):
        places.config("configs/none.py")


def second_pretraining(repository, more):
    """A pretraining `next` beside `mae`, with more keys."""
    entry = 'options=dict(data="{work_dir}/data"))'
    repository.edit(f"{entry}]", f'{entry}, dict(name="next", config="configs/mae.py", {more})]')
    repository.edit('inits = ["random", "mae"]', 'inits = ["next"]')


def test_a_pretraining_waits_for_its_teachers_and_follows_them(repository):
    second_pretraining(repository, 'after=["mae"]')
    assert repository.run("--seeds", "0", "--workers", "2")[0] == 0
    called = [name for name, _, _ in repository.calls()]
    assert called[:2] == ["pretrain-mae", "pretrain-next"]
    path = repository.root / "bench.py"
    path.write_text(path.read_text().replace('options=dict(data="{work_dir}/data")', "options={}"))
    code, output = repository.run("--seeds", "0")
    assert code == 0 and "pretrain-next runs again: it builds on pretrain-mae" in output
    repository.edit('after=["mae"]', 'after=["none"]')
    code, output = repository.run()
    assert code == 2 and "pretrain-none" in output


def test_a_pretraining_without_pictures_has_no_step_for_them(repository):
    second_pretraining(repository, "panels=False")
    repository.edit("panels = None", "panels = dict(count=1)")
    _, output = repository.run("--dry-run")
    assert "] panels-pretrain-mae:" in output and "panels-pretrain-next" not in output
    assert "] pretrain-next:" in output


def test_what_a_backbone_was_pretrained_with_goes_into_its_tasks_alone(repository):
    second_pretraining(repository, 'finetune={"a.scale": 0.1}')
    repository.edit('inits = ["next"]', 'inits = ["random", "next"]')
    assert repository.run("--seeds", "0")[0] == 0
    for task in ("semseg", "detection"):
        for name in (f"{task}-next-lr1e-3-seed0", f"{task}-next-seed0-test"):
            assert "a.scale=0.1" in repository.step(name)["command"]
        assert "a.scale" not in repository.step(f"{task}-random-lr1e-3-seed0")["command"]
    assert "a.scale" not in repository.step("pretrain-next")["command"]


def test_a_stage_of_a_pretraining_is_an_initialization(repository):
    path = repository.root / "configs/mae.py"
    path.write_text(path.read_text() + "stages = [dict(name='one'), dict(teacher='one')]\n")
    repository.edit('inits = ["random", "mae"]', 'inits = ["mae-one", "mae-stage1"]')
    _, output = repository.run("--dry-run")
    assert "--init {work_dir}/pretrain-mae/one " in output
    assert "--init {work_dir}/pretrain-mae/stage1 " in output
    repository.edit('inits = ["mae-one", "mae-stage1"]', 'inits = ["mae-two"]')
    code, output = repository.run("--dry-run")
    assert code == 2 and "mae-two" in output and "mae-one" in output


@pytest.mark.parametrize(
    ("old", "new", "word"),
    [
        ('inits = ["random", "mae"]', 'inits = ["random", "dino"]', "dino"),
        ('select="mIoU"', 'select="accuracy"', "accuracy"),
        ('config="configs/seg.py"', 'config="configs/none.py"', "none.py"),
        ('name="semseg"', 'name="detection"', "detection"),
        ("workers = 1", "workers = 0", "workers"),
        ("panels = None", "panels = (", "bench.py"),
    ],
)
def test_a_mistake_in_the_config_is_told_before_anything_runs(repository, old, new, word):
    repository.edit(old, new)
    code, output = repository.run()
    assert code == 2 and word in output and "expected" in output
    assert repository.calls() == []


def test_a_dry_run_lists_the_steps_and_runs_none(repository):
    code, output = repository.run("--dry-run", "--seeds", "0")
    assert code == 0 and "[1/12] prepare-data: new" in output
    assert not repository.work_dir.exists() and repository.calls() == []


def test_tasks_share_the_configs_grid_and_options(repository):
    shared = "grid = [dict(lr=1e-2)]\ngrid_keys = dict(lr='lr')\noptions = {'a.b': 3}"
    repository.edit("grid = [dict(lr=1e-3), dict(lr=1e-2)]", shared)
    repository.edit('grid=grid, grid_keys=dict(lr="lr")', "options={'c': 4}")
    repository.edit('grid=grid[:1], grid_keys=dict(lr="lr")', "grid=[dict(lr=1e-1)]")
    assert repository.run("--seeds", "0")[0] == 0
    semseg = repository.step("semseg-mae-lr0.01-seed0")["command"]
    assert semseg.endswith("--cfg-options a.b=3 c=4 randomness.seed=0 lr=0.01")
    detection = repository.step("detection-mae-lr0.1-seed0")["command"]
    assert detection.endswith("--cfg-options a.b=3 randomness.seed=0 lr=0.1")
    assert "a.b=3 c=4 lr=0.01" in repository.step("semseg-mae-seed0-test")["command"]


def shipped(name):
    config = Config.fromfile(CONFIGS / f"benchmark/{name}.py").to_dict()
    return Plan(config, Places(CONFIGS.parent, Path("/nowhere"), Path("/data")), name)


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("benchmark/*.py")), ids=lambda path: path.stem)
def test_a_shipped_benchmark_has_an_estimate_for_every_step(path):
    plan = shipped(path.stem)
    assert set(plan.config["estimate"]) == {step.kind for step in plan.steps}


def test_the_demos_differ_in_size_alone():
    full, demo, smoke = (shipped(name) for name in ("demo-full", "demo", "smoke"))
    assert len(full.seeds) > 1 == len(demo.seeds)
    for small in (demo, smoke):
        assert len(small.steps) < len(full.steps)
        assert [task["metrics"] for task in small.tasks] == [task["metrics"] for task in full.tasks]
        (point,) = small.config["grid"]
        assert point in full.config["grid"]
        assert {step.kind for step in small.steps} == {step.kind for step in full.steps}


def test_some_tasks_and_initializations_with_what_they_need(repository):
    second_pretraining(repository, 'after=["mae"]')
    repository.edit('inits = ["next"]', 'inits = ["random", "mae", "next"]')

    def steps(*argv):
        code, output = repository.run("--dry-run", "--seeds", "0", *argv)
        assert code == 0, output
        return " ".join(line for line in output.splitlines() if line.startswith("["))

    random = steps("--tasks", "semseg", "--inits", "random")
    assert "semseg-random" in random and "detection" not in random and "mae" not in random
    following = steps("--inits", "next")
    assert "pretrain-mae:" in following and "pretrain-next:" in following
    assert "semseg-mae" not in following and "detection-next" in following
    for flag, name in (("--tasks", "depth"), ("--inits", "dino")):
        code, output = repository.run(flag, name)
        assert code == 2 and f"{flag} = '{name}': expected some of" in output


def test_a_part_prepares_what_it_needs_alone():
    prepare = [dict(name="a"), dict(name="b", needs=["a"]), dict(name="c")]
    config = dict(prepare=prepare, tasks=[dict(name="t", needs=["b"]), dict(name="u")], extra=[1])
    part = subset(config, ["t"], None)
    assert [item["name"] for item in part["prepare"]] == ["a", "b"] and "extra" not in part
    assert subset(config, ["u"], None)["prepare"] == prepare
