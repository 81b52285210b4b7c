"""The `mimseg` command: light to start, one way to end, help with an example."""

import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

from mimseg import cli

ROOT = Path(__file__).parents[2]
HEAVY = ("torch", "mmengine", "mmcv", "numpy", "cv2", "PIL")
SHIMS = {
    "train": "train",
    "test": "test",
    "benchmark": "benchmark",
    "convert": "convert",
    "export": "export",
    "analyze": "analyze",
    "data/check": "check",
    "data/make_scenes": "scenes",
    "data/masks_to_coco": "masks2coco",
}


def python(code, cwd):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=cwd)


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_help_shows_an_example_and_imports_nothing_heavy(name, tmp_path):
    code = f"""
import sys
from mimseg.cli import main
try:
    main([{name!r}, "--help"])
finally:
    heavy = [name for name in {HEAVY!r} if name in sys.modules]
    assert not heavy, heavy
"""
    done = python(code, tmp_path)
    assert done.returncode == 0, done.stderr
    assert f"usage: mimseg {name}" in done.stdout
    assert f"example:\n  mimseg {name}" in done.stdout


def test_the_list_of_commands_and_the_version(capsys):
    assert cli.main([]) == cli.main(["--help"]) == 0
    text = capsys.readouterr().out
    assert all(f"  {name} " in text for name in cli.COMMANDS)
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("mimseg 0.")


def test_an_unknown_command_is_one_line(capsys):
    assert cli.main(["trian", "x"]) == 2
    assert capsys.readouterr().err == "error: mimseg has no command 'trian': did you mean train?\n"


@pytest.mark.parametrize("shim", SHIMS)
def test_a_tool_is_a_shim_of_its_command(shim):
    text = (ROOT / f"tools/{shim}.py").read_text()
    assert f"from mimseg.cli.{SHIMS[shim]} import main" in text
    assert len([line for line in text.splitlines() if line]) == 4


def test_a_mistake_ends_with_one_line(tmp_path, capsys):
    for name, *argv in (["train", "no_such_config"], ["benchmark", "x"], ["check", "/no/folder"]):
        assert cli.main([name, *argv]) == 2
        error = capsys.readouterr().err
        assert error.startswith("error: ") and error.count("\n") == 1


def test_a_closed_pipe_is_no_traceback():
    command = f"{sys.executable} -m mimseg.cli --help | true"
    done = subprocess.run(command, shell=True, capture_output=True, text=True, cwd=ROOT)
    assert done.stderr == ""


def test_choices_are_those_of_the_rooms():
    from mimseg.checkpoints.families import NAMES
    from mimseg.data.checks.check import KINDS
    from mimseg.data.scenes.write import SPLITS
    from mimseg.export.parts import PARTS
    from mimseg.export.write import OPSETS

    assert import_module("mimseg.cli.convert").FAMILIES == NAMES
    assert import_module("mimseg.cli.check").KINDS == tuple(KINDS)
    assert import_module("mimseg.cli.scenes").SPLITS == tuple(SPLITS)
    assert import_module("mimseg.cli.export").PARTS == tuple(PARTS)
    assert import_module("mimseg.cli.export").OPSETS == OPSETS
