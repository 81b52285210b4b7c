"""The table comes from what the configs build, and README's is its output."""

from pathlib import Path

import pytest
from mmengine.config import Config

from dev.methods import table
from mimseg.errors import UserError
from mimseg.recipes.describe import describe, percent, words
from mimseg.recipes.methods import Method, find_methods, find_paper
from mimseg.registry import MODELS

ROOT = Path(__file__).parents[2]
FOUR = {"maskdistill", "dbot", "img2vec", "tinymim"}


@pytest.fixture(scope="module")
def rows():
    return table.rows(ROOT)


def test_readme_has_the_output(rows):
    found = table.read_table(ROOT / "README.md")
    assert found == table.markdown(rows), "python tools/methods.py --write"


def test_the_four_and_their_relatives(rows):
    names = [row.method.name for row in rows]
    assert len(names) == len(set(names)) and set(names) >= FOUR
    assert len(set(names) - FOUR) >= 10
    papers = {row.method.name: row.method.paper for row in rows}
    assert papers["maskdistill"] == "2210.10615" and papers["dbot"] == "2209.03917"
    assert papers["img2vec"] == "2304.12535" and papers["tinymim"] == "2301.01296"
    for row in rows:
        assert (ROOT / row.method.path).is_file()
        assert all(row.cells[column] for column in table.COLUMNS)
    cells = {row.method.name: row.cells for row in rows}
    assert cells["mae"]["teacher"] == "pixels" and cells["mae"]["mask"] == "random 75 %"
    assert "whole image" in cells["tinymim"]["student"] and cells["tinymim"]["mask"] == "none"
    assert "earlier stage" in cells["dbot"]["teacher"]
    assert cells["maskdistill"]["mask"] == "block-wise 40 %"
    distinct = {tuple(sorted(c.items())) for c in cells.values()}
    assert len(distinct) == len(rows)  # each is a method of its own


def test_a_config_is_described_by_what_it_builds():
    """Names, comments and unknown words in a config change nothing; types and settings do."""
    path = next(method.path for method in find_methods(ROOT) if method.name == "mae")
    cfg = Config.fromfile(ROOT / path)
    before = table.cells(cfg)
    cfg.name = cfg.method = "BEiT"
    cfg.filename = "configs/beit/beit.py"
    assert table.cells(cfg) == before
    cfg.model.masking.ratio = 0.6
    cfg.model.loss = dict(type="mimseg.L1Loss")
    after = table.cells(cfg)
    assert after["mask"] == "random 60 %" and after["loss"] == "L1"
    same = {k for k in before if before[k] == after[k]}
    assert same == set(before) - {"mask", "loss"}


def test_objectives_side_by_side():
    path = next(method.path for method in find_methods(ROOT) if method.name == "mae")
    cfg = Config.fromfile(ROOT / path)
    slots = ("teacher", "normalization", "head", "loss")
    first = {slot: cfg.model.pop(slot) for slot in slots}
    teachers = dict(pixels=first.pop("teacher"), hog=dict(type="mimseg.HOGTeacher"))
    second = {**first, "loss": dict(type="mimseg.CosineLoss"), "positions": "all"}
    cfg.model.teachers = teachers
    cfg.model.objectives = [
        dict(name="a", teacher="pixels", **first),
        dict(name="b", teacher="hog", **second),
    ]
    cells = table.cells(cfg)
    assert cells["teacher"] == "pixels; HOG" and cells["loss"] == "L2; cosine"
    assert cells["positions"] == "masked; all" and ";" not in cells["head"]


def test_the_main_config_of_a_folder(tmp_path):
    folder = tmp_path / "configs" / "new"
    folder.mkdir(parents=True)
    pretrain = "model = dict(type='mimseg.MaskedImageModeling')\n"
    for name in ("new-long_vit-base_300e_in1k", "new_vit-base_300e_in1k", "new_vit-large_9e_in1k"):
        (folder / f"{name}.py").write_text(pretrain)
    (folder / "a.py").write_text(pretrain)
    (tmp_path / "configs" / "other").mkdir()
    (tmp_path / "configs" / "other" / "seg.py").write_text("model = dict(type='EncoderDecoder')\n")
    (found,) = find_methods(tmp_path)
    assert found == Method("new", Path("configs/new/new_vit-base_300e_in1k.py"), None)
    (folder / "new_vit-base_300e_in1k.py").write_text("model = (\n")
    with pytest.raises(UserError, match="new_vit-base_300e_in1k"):
        find_methods(tmp_path)


def test_papers_come_from_the_comment_at_the_start(tmp_path):
    (tmp_path / "base.py").write_text("# Base, arXiv 1111.22222.\n")
    leaf = tmp_path / "leaf.py"
    leaf.write_text("# Ours.\n_base_ = ['./base.py']\n# arXiv 9999.99999\n")
    assert find_paper(leaf) == "1111.22222"
    leaf.write_text("# Theirs\n# (arXiv:2222.33333).\n_base_ = ['./base.py']\n")
    assert find_paper(leaf) == "2222.33333"
    leaf.write_text("x = 1  # arXiv 9999.99999\n")
    assert find_paper(leaf) is None


def test_a_config_that_does_not_build_is_named(tmp_path):
    folder = tmp_path / "configs" / "new"
    folder.mkdir(parents=True)
    (folder / "new.py").write_text("model = dict(type='mimseg.MaskedImageModeling')\n")
    with pytest.raises(UserError, match="configs/new/new.py"):
        table.rows(tmp_path)


def test_write_keeps_the_rest_of_the_file(tmp_path):
    path = tmp_path / "README.md"
    path.write_text(f"a\n{table.BEGIN}\nold\n{table.END}\nb\n")
    for _ in range(2):
        table.write_table(path, "| new |")
        assert path.read_text() == f"a\n{table.BEGIN}\n\n| new |\n\n{table.END}\nb\n"
    path.write_text("nothing")
    with pytest.raises(UserError, match="markers"):
        table.write_table(path, "")


def test_words():
    kinds = {"SmoothL1Loss": "smooth L1", "MLPHead": "MLP", "HOGTeacher": "HOG"}
    kinds |= {
        "InverseBlockMasking": "inverse block",
        "L2Loss": "L2",
        "RelationKLLoss": "relation KL",
    }
    for name, expected in kinds.items():
        assert words(MODELS.get(f"mimseg.{name}")) == expected
    assert percent(75 / 196) == "38.3 %" and percent(0.4) == "40 %"
    norm = dict(type="mimseg.TokenLayerNorm", layers=(6, 7), unbiased=True)
    text = "token LayerNorm (unbiased), mean of 2 blocks"
    assert describe(MODELS.build(dict(norm)), norm) == text
    assert describe(None, None) == "none"
