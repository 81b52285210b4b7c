"""tools/analyze.py token-diversity, as a user would use it."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from mimseg.analysis.teachers import build_student, build_teacher, load_teacher, read_teachers
from mimseg.analysis.token_diversity import measure, query_indices
from mimseg.cli.analyze import main
from mimseg.errors import UserError
from mimseg.outputs import Needs

ROOT = Path(__file__).parents[2]
VIT = """dict(type="mimseg.ViT", arch=dict(embed_dims=24, num_layers=2, num_heads=2,
    feedforward_channels=48), img_size=32, patch_size=8)"""
CONFIG = f"""
teachers = dict(
    pixels=dict(type="mimseg.PixelTeacher", patch_size=16),
    vit=dict(type="mimseg.ViTTeacher", init="random", backbone={VIT}),
    first=dict(type="mimseg.ViTTeacher", init="random", backbone={VIT}, layer=0),
)
"""


@pytest.fixture
def folder(tmp_path):
    """Six images of several sizes in two folders, and one that is none."""
    rng = np.random.default_rng(0)
    for number in range(6):
        path = tmp_path / f"images/{number % 2}/{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = rng.integers(256, size=(30 + 5 * number, 50, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(path)
    (tmp_path / "images/1/broken.jpg").write_bytes(b"no image")
    (tmp_path / "config.py").write_text(CONFIG)
    return tmp_path


def run(folder, *more, teachers=("config.py",)):
    sources = [str(folder / t) if t.endswith(".py") else t for t in teachers]
    paths = ["--images", str(folder / "images"), "--out", str(folder / "out")]
    common = ["--size", "32", "--pictures", "2", "--batch-size", "4", "--device", "cpu"]
    return main(["token-diversity", "--teachers", *sources, *paths, *common, *more])


def results(folder):
    return json.loads((folder / "out/token_diversity.json").read_text())


def test_ranking_pictures_and_a_second_run(folder, capsys):
    assert run(folder) == 0
    told = capsys.readouterr().out
    found = results(folder)
    means = [t["diversity"]["raw"]["mean"] for t in found["teachers"].values()]
    assert set(found["teachers"]) == {"pixels", "vit", "first"}
    assert means == sorted(means, reverse=True)
    vit, pixels = found["teachers"]["vit"], found["teachers"]["pixels"]
    assert (vit["width"], vit["grid"], vit["images"]) == (24, [4, 4], 6)
    assert (pixels["width"], pixels["grid"], pixels["parameters"]) == (768, [2, 2], 0)
    assert vit["parameters"] > 1000 and found["teachers"]["first"]["layer"] == 0
    assert vit["diversity"] != found["teachers"]["first"]["diversity"]
    rows = [line.split() for line in told.splitlines()]
    assert [row[1] for row in rows if row and row[0] in "123"] == list(found["teachers"])
    assert "1 images did not open" in told and "left" in told  # progress with an estimate
    with Image.open(folder / "out/similarity_2.png") as picture:
        assert picture.width > 4 * 100 and len(set(picture.getdata())) > 50

    before = (folder / "out/token_diversity.json").read_bytes()
    assert run(folder, teachers=("config.py", "small=mimseg.PixelTeacher,patch_size=8")) == 0
    assert "kept from an earlier run" in capsys.readouterr().out
    after = results(folder)["teachers"]
    assert after.pop("small")["grid"] == [4, 4] and after == found["teachers"]
    assert run(folder, "--force") == 0  # random weights depend on the seed alone
    again = results(folder)["teachers"]
    assert {k: v["diversity"] for k, v in again.items() if k != "small"} == {
        k: v["diversity"] for k, v in found["teachers"].items()
    }
    assert before != (folder / "out/token_diversity.json").read_bytes()


def test_nothing_is_overwritten_silently(folder, capsys):
    assert run(folder) == 0
    before = (folder / "out/token_diversity.json").read_bytes()
    assert run(folder, "--limit", "3") == 2
    assert "count = 3; there it is 7" in capsys.readouterr().err
    assert run(folder, "--seed", "1") == 2
    assert "seed" in capsys.readouterr().err
    (folder / "config.py").write_text(CONFIG.replace("layer=0", "layer=1"))
    assert run(folder) == 2
    assert "teachers.first" in capsys.readouterr().err
    assert before == (folder / "out/token_diversity.json").read_bytes()
    assert run(folder, "--limit", "3", "--pictures", "1", "--force") == 0
    assert results(folder)["settings"]["limit"] == 3
    assert [p.name for p in (folder / "out").glob("*.png")] == ["similarity_1.png"]


def test_a_killed_run_goes_on(folder, capsys, monkeypatch):
    from mimseg.analysis import diversity

    def killed(name, *args):
        if name == "first":
            raise KeyboardInterrupt
        return measure(name, *args)

    monkeypatch.setattr(diversity, "measure", killed)
    assert run(folder) == 130
    assert set(results(folder)["teachers"]) == {"pixels", "vit"}
    monkeypatch.undo()
    capsys.readouterr()
    assert run(folder) == 0
    assert "kept from an earlier run in" in capsys.readouterr().out
    assert set(results(folder)["teachers"]) == {"pixels", "vit", "first"}


@pytest.mark.parametrize(
    ("teachers", "told"),
    [
        (("missing.py",), "missing.py"),
        (("a=mimseg.PixelTeecher",), "PixelTeacher"),
        (("a=mimseg.PixelTeacher,patches=3",), "patches"),
        (("a=mimseg.PixelTeacher,3",), "NAME=mimseg.TYPE"),
        (("a=mimseg.LinearHead,in_channels=3,out_channels=3",), "a teacher"),
        (("config.py", "vit=mimseg.PixelTeacher"), "a name for each teacher"),
        (("../a=mimseg.PixelTeacher",), "a name of letters"),
        (("a=mimseg.ViTTeacher,init=student",), "student=dict"),
        (("a=mimseg.PixelTeacher,patch_size=32",), "two tokens"),
    ],
)
def test_mistakes_are_told(folder, capsys, teachers, told):
    assert run(folder, teachers=teachers) == 2
    assert told in capsys.readouterr().err
    assert not (folder / "out/token_diversity.json").exists()


@pytest.mark.parametrize("flags", [("--limit", "0"), ("--size", "0"), ("--batch-size", "0")])
def test_bad_numbers_are_told(folder, capsys, flags):
    assert run(folder, *flags) == 2
    assert flags[0] in capsys.readouterr().err


def test_a_foreign_folder_is_left_alone(folder, capsys):
    (folder / "out").mkdir()
    (folder / "out/mine.txt").write_text("mine")
    assert run(folder) == 2
    assert "an earlier run" in capsys.readouterr().err
    assert [p.name for p in (folder / "out").iterdir()] == ["mine.txt"]


def test_a_teacher_of_the_students_shape(folder):
    path = folder / "student.py"
    path.write_text(
        f"student = {VIT}\nteachers = dict(copy=dict(type='mimseg.ViTTeacher', init='student'))"
    )
    teachers, cfg = read_teachers([str(path)])
    student = build_student(cfg)
    teacher, layer = build_teacher("copy", teachers["copy"], student)
    load_teacher("copy", teacher, student, seed=0)
    images = torch.rand(3, 3, 32, 32)
    found = measure("copy", teacher, layer, [([0, 1, 2], images)], [1], torch.device("cpu"))
    normalised = (images - teacher.mean) / teacher.std
    with torch.no_grad():
        _, taps, _ = student.eval().tap(normalised, Needs(layers=frozenset({-1})))
    from mimseg.analysis import token_diversity

    torch.testing.assert_close(found.raw, token_diversity(taps[-1][:, 1:]))  # without CLS
    assert found.shown == [1] and found.maps.shape == (1, 3, 4, 4)
    torch.testing.assert_close(found.own, found.raw[1:2])
    at_queries = found.maps[0].flatten(1).gather(1, torch.tensor(query_indices((4, 4)))[:, None])
    torch.testing.assert_close(at_queries, torch.ones(3, 1))


def test_tokens_that_are_not_finite_are_told():
    teachers, _ = read_teachers(["p=mimseg.PixelTeacher,patch_size=8"])
    teacher, layer = build_teacher("p", teachers["p"], build_student(None))
    batch = [([0], torch.full((1, 3, 32, 32), float("nan")))]
    with pytest.raises(UserError, match="teachers.p.*NaN"):
        measure("p", teacher, layer, batch, [], torch.device("cpu"))


def test_the_example_config_needs_no_network():
    teachers, student = read_teachers([str(ROOT / "configs/analysis/token_diversity.py")])
    assert student is None and len(teachers) >= 5
    for name, cfg in teachers.items():
        assert cfg.get("weights", "random") == "random" and cfg.get("init", "random") == "random"
        with torch.device("meta"):
            teacher, _ = build_teacher(name, cfg, build_student(None))
        assert teacher.out_channels > 0


def test_the_tool_is_thin_and_helps():
    command = [sys.executable, str(ROOT / "tools/analyze.py"), "token-diversity", "--help"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0 and "--teachers" in done.stdout


@pytest.mark.parametrize("name", ["token_diversity", "configs/analysis/token_diversity.py"])
def test_shipped_teachers_by_name_from_anywhere(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    teachers, _ = read_teachers([name])
    assert teachers["pixels"]["type"] == "mimseg.PixelTeacher"
