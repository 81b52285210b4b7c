"""examples/own_method from a user's own folder, and what happens when a part of it is missing."""

import json
import runpy
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from mmengine.config import Config
from PIL import Image

from mimseg.cli import main
from mimseg.errors import UserError
from mimseg.recipes.configs import import_custom_modules
from mimseg.registry import MODELS

EXAMPLE = Path(__file__).parents[2] / "examples/own_method"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A copy of the example, and four images; what an import changes is undone."""
    shutil.copytree(EXAMPLE, tmp_path / "mine", ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "images").mkdir()
    for number in range(4):
        pixels = np.random.default_rng(number).integers(0, 256, (64, 64, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"images/{number}.png")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    yield tmp_path
    sys.modules.pop("my_loss", None)
    for registry in (MODELS, MODELS.parent):
        registry._module_dict.pop("MyLoss", None)


def test_the_example_trains_with_its_own_loss(folder, monkeypatch):
    options = {
        "data_root": "images",
        "train_dataloader.batch_size": 2,
        "train_dataloader.num_workers": 0,
        "train_dataloader.persistent_workers": False,
        "train_cfg.max_epochs": 1,
    }
    words = [f"{key}={value}" for key, value in options.items()]
    assert main(["train", "mine/my_method.py", "--cfg-options", *words]) == 0
    work_dir = folder / "work_dirs/my_method"
    assert json.loads((work_dir / "done.json").read_text())["checkpoint"] == "epoch_1.pth"
    assert MODELS.get("MyLoss").__module__ == "my_loss"
    assert Path(sys.modules["my_loss"].__file__).parent == folder / "mine"


def test_the_documentation_shows_the_same_code():
    page = (EXAMPLE.parents[1] / "docs/adding_a_method.md").read_text()
    for name in ("my_loss.py", "my_method.py"):
        code = (EXAMPLE / name).read_text().partition("\n")[2].lstrip("\n")
        assert f"```python\n# {name}\n{code}```" in page


def test_its_own_test_passes(folder):
    sys.path.insert(0, str(folder / "mine"))
    runpy.run_path("mine/test_my_loss.py")["test_my_loss"]()


def test_a_module_may_lie_in_the_current_folder(folder, capsys):
    (folder / "mine/my_loss.py").rename(folder / "my_loss.py")
    assert main(["train", "mine/my_method.py", "--print-config"]) == 0
    assert "loss=dict(type='MyLoss')" in capsys.readouterr().out


def test_a_module_that_is_missing_is_one_line(folder, capsys):
    (folder / "mine/my_loss.py").unlink()
    assert main(["train", "mine/my_method.py"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: custom_imports = ['my_loss']: expected modules in mine, ")
    assert "No module named 'my_loss'" in error and error.count("\n") == 1


def test_a_config_without_a_folder_finds_modules_that_are_installed(monkeypatch):
    """As a benchmark has it, whose config is merged in memory."""
    monkeypatch.setattr(sys, "path", [*sys.path])
    import_custom_modules(Config({"custom_imports": {"imports": ["mimseg.losses"]}}))
    missing = Config({"custom_imports": {"imports": ["no_such_loss"]}})
    with pytest.raises(UserError, match="modules in the current folder or installed"):
        import_custom_modules(missing)
