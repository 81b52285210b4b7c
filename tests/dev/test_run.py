"""A short run of a method, from the command's pieces to the page."""

import copy
import json
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from mmengine.config import Config

from dev.methods import run as small
from dev.methods.curves import svg
from dev.methods.main import main
from dev.methods.page import page, write_page
from dev.methods.records import make_record, read_records, verdict, write_record
from dev.methods.table import Row
from dev.methods.train import plan, train_all
from mimseg.cli.scenes import main as make_scenes
from mimseg.errors import UserError
from mimseg.pipeline.places import Places
from mimseg.pipeline.step import StepState
from mimseg.recipes.methods import find_methods

ROOT = Path(__file__).parents[2]
DBOT = ROOT / "configs/dbot/dbot_vit-mini-p8_1xb64-2x20e_scenes.py"


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    out = tmp_path_factory.mktemp("methods") / "scenes"
    assert not make_scenes([str(out), "--unlabelled", "60", "--size", "64", "--workers", "1"])
    return out / "unlabelled"


@pytest.fixture(scope="module")
def methods():
    return {method.name: method for method in find_methods(ROOT)}


@pytest.fixture(scope="module")
def finished(scenes, tmp_path_factory, methods):
    """dBOT's two stages of three steps, as the pipeline would leave them."""
    work_dir = tmp_path_factory.mktemp("methods") / "dbot"
    state = StepState(work_dir)
    state.folder.mkdir()
    state.begin({}, "python -m dev.methods.run", {"commit": "abc", "machine": {"cpu": "x"}})
    argv = [str(DBOT), "--work-dir", str(work_dir), "--data", str(scenes), "--steps", "6"]
    assert small.main(argv) == 0
    state.end(0)
    return work_dir


def test_the_stages_share_the_steps(finished):
    result = json.loads((finished / small.RESULT).read_text())
    assert result["stages"] == [dict(name="stage1", steps=3), dict(name="stage2", steps=3)]
    assert result["images"] == {"held_out": 6, "train": 54}
    lists = [set((finished / f"{n}.txt").read_text().split()) for n in ("train", "held_out")]
    assert not lists[0] & lists[1]
    held = result["held_out"]
    assert held["mean_target"] > 0 and held["loss"] > 0


def test_a_finished_run_measures_the_same_again(finished, scenes):
    before = json.loads((finished / small.RESULT).read_text())
    (finished / small.RESULT).unlink()
    argv = [str(DBOT), "--work-dir", str(finished), "--data", str(scenes), "--steps", "6"]
    assert small.main(argv) == 2  # the folder is in use
    assert small.main([*argv, "--resume"]) == 0
    assert json.loads((finished / small.RESULT).read_text()) == before


def test_record_page_and_curves(finished, methods, tmp_path):
    method = methods["dbot"]
    record = make_record(method, StepState(finished))
    assert [len(stage["curve"]) for stage in record["stages"]] == [3, 3]
    assert record["commit"] == "abc" and record["seconds"] > 0
    record["machine"] = dict(cpu="x", cores=2)
    folder = tmp_path / "docs" / "methods"
    write_record(folder, record)
    assert read_records(folder) == [record]
    row = Row(method, dict.fromkeys(("teacher", "student", "normalization", "head"), "?"))
    row.cells.update(loss="?", mask="?", positions="?")
    write_page(tmp_path / "docs" / "methods.md", folder, [row])
    text = (tmp_path / "docs" / "methods.md").read_text()
    assert (
        "](methods/curves.svg)" in text and f"| dbot | {record['stages'][1]['first']:.3g}" in text
    )
    assert "](../configs/dbot/" in text
    drawn = ET.fromstring((folder / "curves.svg").read_text())
    assert len(drawn.findall(".//{*}polyline")) == 2 and not drawn.findall(".//{*}nan")
    assert "Not run yet" not in text
    two = [row, Row(methods["mae"], row.cells)]
    assert "Not run yet: mae." in page(two, [record], "methods")
    assert "small run" not in page(two, [], "methods")
    (folder / "x.json").write_text("{}")
    with pytest.raises(UserError, match="x.json"):
        read_records(folder)


def record_of(first=2.0, last=1.0, loss=0.9, mean=1.0):
    stage = dict(name="", steps=4, first=first, last=last, curve=[[1, first], [4, last]])
    held = dict(loss=loss, mean_target=mean)
    return dict(method="m<", stages=[stage], held_out=held)


def test_the_verdict_is_honest():
    assert verdict(record_of()) == "yes"
    assert verdict(record_of(loss=1.0)) == "no: not below the mean target"
    assert verdict(record_of(last=2.1)) == "no: the loss did not fall"
    assert verdict(record_of(loss=None)) == "no: it diverged"


def test_curves_of_any_records_are_an_image():
    for found in ([], [record_of()] * 6, [record_of(mean=None)], [record_of(1.0, 1.0)]):
        drawn = ET.fromstring(svg(found))
        assert len(drawn.findall(".//{*}polyline")) == len(found)
    assert "nan" not in svg([record_of(1.0, 1.0, mean=1.0)])


def test_what_is_short_and_the_same_for_all(methods, scenes, tmp_path):
    for name in ("maskfeat", "mae", "dbot", "data2vec"):
        cfg = methods[name].load(ROOT)
        small.prepare(cfg, scenes, tmp_path, 150, seed=3)
        for stage in small.stages_of(copy.deepcopy(cfg)).values():
            assert stage.model.backbone.arch.embed_dims == 96
            assert stage.model.backbone.pos_embed in ("sincos", "none")  # MaskFeat's are learned
            assert stage.train_dataloader.batch_size == 32
            assert stage.optim_wrapper.type == "OptimWrapper" and stage.randomness.seed >= 3
            assert stage.train_dataloader.dataset.ann_file == str(tmp_path / "train.txt")
        lengths = [stage.train_cfg.max_iters for stage in small.stages_of(cfg).values()]
        assert sum(lengths) == 150
    assert cfg.model.teacher.get("anneal_steps") in (None, 150)  # data2vec's, of the whole run
    assert small.stage_steps(10, 3) == [3, 3, 4]
    cfg = Config.fromfile(DBOT)
    with pytest.raises(UserError, match="--steps"):
        small.prepare(cfg, scenes, tmp_path, 5, seed=0)


def test_plan(methods, tmp_path):
    places = Places(ROOT, tmp_path)
    steps = {step.name: step for step in plan(ROOT, places, methods, 150, 0)}
    assert list(steps) == ["scenes", *methods]
    assert steps["dbot"].needs == ["scenes"] and steps["dbot"].resume
    assert steps["dbot"].options == {"train_cfg.max_iters": 75}
    places = Places(ROOT, tmp_path, tmp_path / "mine")
    found = plan(ROOT, places, methods, 150, 0)
    assert len(found) == len(methods) and str(tmp_path / "mine") in found[0].argv


def test_one_that_fails_does_not_stop_the_others(methods, tmp_path, monkeypatch, capfd):
    """Steps are replaced by small commands: the second of three fails."""
    import sys

    from dev.methods import train
    from mimseg.pipeline.step import Step

    def fake(root, places, methods, steps, seed):
        codes = {"beit": 0, "dbot": 3, "mae": 0}
        return [
            Step(name, [sys.executable, "-c", f"raise SystemExit({code})"], "other")
            for name, code in codes.items()
        ]

    monkeypatch.setattr(train, "plan", fake)
    names = ["beit", "dbot", "mae"]
    assert train_all(ROOT, tmp_path / "out", tmp_path / "records", workers=1, only=names) == 1
    states = {name: StepState(tmp_path / "out" / name).content for name in names}
    assert [states[name]["returncode"] for name in names] == [0, 3, 0]
    assert "failed: dbot" in capfd.readouterr().out


def test_mistakes_are_told_in_one_line(tmp_path, capsys, scenes):
    out = ["--out", str(tmp_path / "out"), "--records", str(tmp_path / "records")]
    assert main(["train", "--methods", "meo", *out], ROOT) == 2
    assert "meo" in capsys.readouterr().err
    assert main(["train", "--data", "/no/such", *out], ROOT) == 2
    assert "/no/such" in capsys.readouterr().err
    few = tmp_path / "few"
    few.mkdir()
    for path in sorted(scenes.iterdir())[:12]:
        (few / path.name).write_bytes(path.read_bytes())
    with pytest.raises(UserError, match="at least 36 images"):
        small.split(few, tmp_path)
