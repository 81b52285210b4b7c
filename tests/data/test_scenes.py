import hashlib
import json
import subprocess
import sys

import cv2
import numpy as np
import pytest

from mimseg.cli.scenes import main as scenes_command
from mimseg.data.scenes import write as scene_writer
from mimseg.data.scenes.draw import SceneConfig, draw_scene
from mimseg.data.scenes.parts import CLASSES, OUTLINES, PALETTE, STUFF, THINGS, fill, texture
from mimseg.data.scenes.write import write_scenes
from mimseg.errors import UserError

SMALL = SceneConfig(size=48)


def digests(folder):
    files = sorted(p for p in folder.rglob("*") if p.is_file())
    return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


def test_same_seed_gives_the_same_bytes_whatever_the_workers(tmp_path):
    counts = {"train": 34, "val": 2, "test": 1, "unlabelled": 33}
    for name, workers, seed in (("a", 1, 7), ("b", 2, 7), ("c", 1, 8)):
        assert write_scenes(tmp_path / name, counts, seed=seed, config=SMALL, workers=workers)
    first = digests(tmp_path / "a")
    assert first == digests(tmp_path / "b")
    other = digests(tmp_path / "c")
    assert first.keys() == other.keys()
    images = [name for name in first if name.endswith(".jpg")]
    assert len(images) == 70 and all(first[name] != other[name] for name in images)
    assert len({first[name] for name in images}) == 70  # no split repeats another's images


def test_processes_start_where_opencv_has_threads(tmp_path):
    """A forked copy would wait for ever for threads that it does not have."""
    script = tmp_path / "draw.py"
    script.write_text(
        """
import sys
import cv2
import numpy as np
from mimseg.data.scenes.write import write_scenes
from mimseg.data.scenes.draw import SceneConfig

if __name__ == "__main__":
    cv2.setNumThreads(2)
    cv2.GaussianBlur(np.random.rand(2000, 2000, 3).astype("float32"), (31, 31), 3)
    write_scenes(sys.argv[1], {"unlabelled": 34}, config=SceneConfig(size=48), workers=2)
"""
    )
    argv = [sys.executable, str(script), str(tmp_path / "scenes")]
    subprocess.run(argv, check=True, timeout=120)
    assert len(list((tmp_path / "scenes/unlabelled").iterdir())) == 34


def test_a_split_does_not_depend_on_the_size_of_the_others(tmp_path):
    write_scenes(tmp_path / "a", {"train": 2, "val": 3}, config=SMALL)
    write_scenes(tmp_path / "b", {"train": 5, "val": 3, "unlabelled": 1}, config=SMALL)
    assert digests(tmp_path / "a/images/validation") == digests(tmp_path / "b/images/validation")


def test_masks_labels_and_categories_agree():
    for index in range(20):
        scene = draw_scene(SceneConfig(), np.random.default_rng(index))
        assert scene.image.shape == (96, 96, 3) and scene.labels.max() <= len(CLASSES)
        assert scene.masks.sum(0).max() <= 1  # the visible parts do not overlap
        for mask, category in zip(scene.masks, scene.categories, strict=True):
            assert mask.sum() >= SceneConfig.min_pixels
            assert (scene.labels[mask] == category + len(STUFF)).all()
        things = scene.labels > len(STUFF)
        assert (things == scene.masks.any(0)).all()


def test_slivers_are_ignored_and_no_instances():
    config = SceneConfig(min_pixels=500)
    scenes = [draw_scene(config, np.random.default_rng(i)) for i in range(20)]
    default = [draw_scene(SceneConfig(), np.random.default_rng(i)) for i in range(20)]
    dropped = 0
    for few, many in zip(scenes, default, strict=True):
        assert (few.image == many.image).all()
        for mask in many.masks:
            if mask.sum() < 500:
                dropped += 1
                assert (few.labels[mask] == 0).all()
    assert dropped > 5
    assert sum(len(s.masks) for s in default) - sum(len(s.masks) for s in scenes) == dropped


def test_classes_differ_in_outline_and_in_texture_and_colour_tells_nothing():
    outlines, textures = zip(*THINGS.values(), strict=True)
    assert len(set(outlines)) == len(set(textures)) == len(THINGS) >= 6
    assert len(set(PALETTE)) == len(PALETTE) == len(CLASSES)

    colours, categories = [], []
    for index in range(250):
        scene = draw_scene(SMALL, np.random.default_rng(index))
        for mask, category in zip(scene.masks, scene.categories, strict=True):
            colours.append(scene.image[mask].mean(0))
            categories.append(category)
    colours, categories = np.array(colours), np.array(categories)
    # The nearest other object by mean colour is of the same class no more often than by chance.
    distance = ((colours[:, None] - colours[None]) ** 2).sum(-1)
    np.fill_diagonal(distance, np.inf)
    agree = (categories[distance.argmin(1)] == categories).mean()
    assert len(categories) > 700 and agree < 1 / 8 + 0.06


def test_a_ring_has_a_hole_and_outlines_fill_what_geometry_says():
    ring = fill(OUTLINES["ring"], 20 * np.eye(2), (32, 32), 64)
    assert ring[32, 32] == 0 and ring[32, 32 + 15] == 1 and ring[0, 0] == 0
    assert abs(ring.sum() - np.pi * 20**2 * (1 - 0.45**2)) < 25
    crescent = fill(OUTLINES["crescent"], 20 * np.eye(2), (32, 32), 64)
    assert crescent[32, 42] == 0 and crescent[32, 15] == 1
    triangle = fill(OUTLINES["triangle"], 20 * np.eye(2), (32, 32), 64)
    assert abs(triangle.sum() - 3 * np.sqrt(3) / 4 * 20**2) < 25


def test_textures_differ_at_equal_colours():
    axis = np.arange(48, dtype=np.float32)
    x, y = np.meshgrid(axis, axis)
    spectra = {}
    for _, kind in THINGS.values():
        drawn = texture(kind, x, y, 8.0, np.random.default_rng(0))
        assert drawn.dtype == np.float32 and 0 <= drawn.min() < drawn.max() <= 1
        spectra[kind] = np.abs(np.fft.rfft2(drawn - drawn.mean()))  # blind to the phase
    kinds = list(spectra)
    for i, one in enumerate(kinds):
        for other in kinds[:i]:
            a, b = spectra[one].ravel(), spectra[other].ravel()
            assert a @ b / np.linalg.norm(a) / np.linalg.norm(b) < 0.9, (one, other)


def test_rerun_is_a_no_op_and_other_arguments_are_refused(tmp_path):
    out = tmp_path / "data"
    assert write_scenes(out, {"train": 2}, config=SMALL)
    before = {p: p.stat().st_mtime_ns for p in out.rglob("*")}
    assert not write_scenes(out, {"train": 2}, config=SMALL)
    assert before == {p: p.stat().st_mtime_ns for p in out.rglob("*")}
    with pytest.raises(UserError, match="--force"):
        write_scenes(out, {"train": 2}, seed=1, config=SMALL)
    assert write_scenes(out, {"val": 1}, config=SMALL, force=True)
    assert not (out / "images/training").exists() and (out / "images/validation").exists()
    assert not (tmp_path / "data.partial").exists()


def test_a_folder_of_something_else_is_never_touched(tmp_path):
    (tmp_path / "images").mkdir()
    (tmp_path / "mine.txt").write_text("keep")
    for force in (False, True):
        with pytest.raises(UserError, match="OUT"):
            write_scenes(tmp_path, {"train": 1}, config=SMALL, force=force)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["images", "mine.txt"]


def test_a_killed_run_leaves_no_marker_and_the_next_one_finishes(tmp_path, monkeypatch):
    out, calls = tmp_path / "data", []
    draw = scene_writer.draw_scene

    def dies(*args):
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return draw(*args)

    monkeypatch.setattr(scene_writer, "draw_scene", dies)
    with pytest.raises(KeyboardInterrupt):
        write_scenes(out, {"train": 4}, config=SMALL)
    assert not out.exists()
    assert write_scenes(out, {"train": 4}, config=SMALL)
    write_scenes(tmp_path / "whole", {"train": 4}, config=SMALL)
    assert digests(out) == digests(tmp_path / "whole")


def test_layout(scenes):
    assert len(list((scenes / "unlabelled").glob("*.jpg"))) == 4
    maps = sorted((scenes / "annotations/training").glob("*.png"))
    images = sorted((scenes / "images/training").glob("*.jpg"))
    assert [p.stem for p in maps] == [p.stem for p in images] and len(maps) == 6
    read = cv2.imread(str(maps[0]), cv2.IMREAD_UNCHANGED)
    assert read.shape == (64, 64) and read.dtype == np.uint8
    names = json.loads((scenes / "classes.json").read_text())
    assert names["classes"] == names["stuff"] + names["things"] and len(names["things"]) == 8
    assert not (scenes / "annotations/instances_test.json").exists()


@pytest.mark.parametrize(
    "arguments, word",
    [
        (["--train", "0"], "at least one image"),
        (["--train", "1", "--size", "4"], "--size"),
        (["--train", "1", "--set", "noise=3"], "SceneConfig.noise"),
        (["--train", "1", "--set", "objects=(5,2)"], "SceneConfig.objects"),
        (["--train", "-1"], "train = -1"),
    ],
)
def test_tool_tells_a_mistake_in_one_line(tmp_path, capsys, arguments, word):
    assert scenes_command([str(tmp_path / "out"), *arguments]) == 2
    error = capsys.readouterr().err
    assert word in error and error.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_tool_takes_settings(tmp_path, capsys):
    out = tmp_path / "out"
    arguments = ["--train", "2", "--size", "32", "--set", "objects=(1,1)", "--workers", "1"]
    assert scenes_command([str(out), *arguments]) == 0
    assert "written" in capsys.readouterr().out
    coco = json.loads((out / "annotations/instances_train.json").read_text())
    assert len(coco["annotations"]) <= 2 and coco["images"][0]["width"] == 32
