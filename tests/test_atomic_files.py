"""Files are replaced whole or not at all."""

import json
import os

import pytest

from mimseg.errors import UserError
from mimseg.files import read_section, replace_section, replacing, write_json, write_text


class Killed(BaseException):
    """Stands for a kill."""


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_the_old_content_stays_until_the_block_ends(tmp_path):
    path = tmp_path / "new/a.txt"
    write_text(path, "old")
    with replacing(path) as temporary:
        temporary.write_text("new")
        assert path.read_text() == "old" and temporary.parent == path.parent
    assert path.read_text() == "new" and names(path.parent) == ["a.txt"]


@pytest.mark.parametrize("error", [Killed, OSError])
def test_a_failure_leaves_the_old_content_and_nothing_else(tmp_path, monkeypatch, error):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(error), replacing(path) as temporary:
        temporary.write_text("half")
        raise error
    with pytest.raises(error), replacing(path) as temporary:  # a folder of files
        temporary.mkdir()
        (temporary / "part").write_text("half")
        raise error

    def fail(*_):
        raise error

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(error):
        write_text(path, "new")
    assert path.read_text() == "old" and names(tmp_path) == ["a.txt"]


def test_the_content_is_on_the_disk_before_the_rename(tmp_path, monkeypatch):
    calls = []
    flush, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda fd: (calls.append("flush"), flush(fd)))
    monkeypatch.setattr(os, "replace", lambda a, b: (calls.append("rename"), replace(a, b)))
    write_text(tmp_path / "a.txt", "new")
    assert calls == ["flush", "rename", "flush"]


def test_json_has_null_for_what_is_no_number(tmp_path):
    values = {"mIoU": float("nan"), "losses": [1.5, float("inf")], "pair": (2, None)}
    write_json(tmp_path / "a.json", values)

    def refuse(constant):
        raise ValueError(constant)  # what strict readers do: NaN is no JSON

    read = json.loads((tmp_path / "a.json").read_text(), parse_constant=refuse)
    assert read == {"mIoU": None, "losses": [1.5, None], "pair": [2, None]}


def test_a_section_is_replaced_between_its_markers(tmp_path):
    path = tmp_path / "a.md"
    path.write_text("# Title\n<begin>\nold\n<end>\nafter\n")
    for _ in range(2):
        replace_section(path, "<begin>", "<end>", "| new |")
        assert path.read_text() == "# Title\n<begin>\n\n| new |\n\n<end>\nafter\n"
    assert read_section(path, "<begin>", "<end>") == "| new |"
    for text in ("nothing", "<end> <begin>", "<begin>"):
        path.write_text(text)
        with pytest.raises(UserError, match="a.md.*the markers <begin> and <end>"):
            replace_section(path, "<begin>", "<end>", "| new |")
        assert path.read_text() == text
