"""Shipped configs by name, from anywhere."""

import pytest

from mimseg.errors import UserError
from mimseg.recipes.configs import CONFIGS, config_names, find_config

NAME = "mae/mae_vit-mini-p8_1xb64-40e_scenes"


@pytest.mark.parametrize(
    "name", [NAME, f"{NAME}.py", f"configs/{NAME}.py", f"configs/{NAME}", NAME.split("/")[1]]
)
def test_a_name_with_or_without_its_folder(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert find_config(name) == CONFIGS / f"{NAME}.py"


def test_a_file_comes_first(tmp_path):
    path = tmp_path / "mine.py"
    path.touch()
    assert find_config(path) == path


def test_a_folder_is_looked_into_first():
    assert find_config("demo", "benchmark") == CONFIGS / "benchmark/demo.py"


def test_names_are_of_configs_and_not_of_bases():
    names = config_names()
    assert NAME in names and len(names) > 90
    assert not any("_base_" in name for name in names)


@pytest.mark.parametrize("name, near", [("mae/mae_vit-base", "mae/mae_vit-base-p16"), ("mea", "")])
def test_what_is_not_there_names_what_is_near(name, near, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=f"name of a shipped config. Fix: .*{near}"):
        find_config(name)
