"""The notebook and the scripts of examples/ run, at a tiny size."""

import json
import runpy
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from PIL import Image

import mimseg
from mimseg.data.scenes.draw import SceneConfig
from mimseg.data.scenes.write import write_scenes

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data") / "scenes"
    counts = dict(train=8, val=2, test=0, unlabelled=16)
    write_scenes(folder, counts, 0, SceneConfig(size=64), workers=1)
    return folder


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Run a script from a folder that is no checkout."""
    monkeypatch.chdir(tmp_path)

    def run(name, *argv):
        source = (EXAMPLES / f"{name}.py").read_text()
        assert len(source.splitlines()) < 40
        runpy.run_path(str(EXAMPLES / f"{name}.py"))["main"]([str(x) for x in argv])

    return run


def run_notebook(**settings):
    """Run the notebook's code with other values in its first cell; return its names."""
    cells = json.loads((EXAMPLES / "features.ipynb").read_text())["cells"]
    first, *rest = ["".join(c["source"]) for c in cells if c["cell_type"] == "code"]
    assert not any(c.get("outputs") for c in cells)
    names = {}
    exec(first, names)
    assert settings.keys() <= names.keys()
    names |= settings
    for source in rest:
        exec(source, names)
    return names


@pytest.fixture
def figures(monkeypatch):
    plt.switch_backend("Agg")
    monkeypatch.setattr(plt, "show", lambda: None)
    yield lambda: [plt.figure(number) for number in plt.get_fignums()]
    plt.close("all")


def test_the_notebook_as_it_is(figures):
    names = run_notebook()
    colors = names["pca"](names["patches"])
    assert colors.shape == (4, 20, 20, 3) and 0 <= colors.min() and colors.max() <= 1
    # the picture has parts: neighbors differ less than patches anywhere
    neighbors = (colors[:, 1:] - colors[:, :-1]).abs().mean()
    flat = colors.flatten(0, 2)
    anywhere = (flat - flat[torch.randperm(len(flat))]).abs().mean()
    assert neighbors < 0.6 * anywhere
    row, column = names["row"], names["column"]
    assert names["similarity"].max() == pytest.approx(1, abs=1e-5)
    assert names["similarity"].argmax() == row * 20 + column
    assert len(figures()) == 2


def test_pretrain_look_and_segment(scenes, run, tmp_path, figures, capsys):
    run("pretrain", scenes / "unlabelled", tmp_path / "mae", "--epochs", 2, "--batch", 8)
    assert "scene_000000.jpg: (1, 8, 8, 128)" in capsys.readouterr().out
    backbone = mimseg.load(tmp_path / "mae")
    assert [block.attn.num_heads for block in backbone.layers] == [4] * 6

    names = run_notebook(SOURCE=str(tmp_path / "mae"), FOLDER=str(scenes / "images/training"))
    for one, other in zip(names["model"].parameters(), backbone.parameters(), strict=True):
        assert torch.equal(one, other)
    assert len(names["images"]) == 4 and len(figures()) == 2

    image = sorted((scenes / "images/validation").iterdir())[0]
    run("segment", scenes, image, "--init", "mae", "--out", "upernet", "--iters", 2)
    pictures = (Image.open(path).convert("RGB") for path in ("upernet/picture.png", image))
    picture, before = map(np.asarray, pictures)
    assert picture.shape == before.shape == (64, 64, 3) and (picture != before).any()
    assert mimseg.load("upernet").base_grid == (8, 8)
