"""The documentation names files, commands and configs that exist."""

import re
from pathlib import Path

import pytest

from mimseg.cli import COMMANDS
from mimseg.errors import UserError
from mimseg.recipes.configs import config_names, find_config

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
LINK = re.compile(r"\]\(([^)\s]+)\)")
BLOCK = re.compile(r"^ *```[^\n]*\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)
FOLDERS = "|".join(sorted({name.split("/")[0] for name in config_names()}))
CONFIG = re.compile(rf"\b(?:configs/)?((?:{FOLDERS})/[\w{{}},.-]+)")  # a shipped one: folder/name


def pages():
    return [pytest.param(page, id=page.relative_to(ROOT).as_posix()) for page in PAGES]


def code_of(page):
    """The code of a page, inline and in blocks, with continued lines joined."""
    text = page.read_text(encoding="utf-8")
    parts = [*BLOCK.findall(text), *re.findall(r"`([^`]+)`", BLOCK.sub("", text))]
    return "\n".join(parts).replace("\\\n", " ")


def spelled_out(name):
    """a{b,c}d -> abd, acd."""
    match = re.search(r"\{([^}]*)\}", name)
    if not match:
        return [name]
    ends = (name[: match.start()], name[match.end() :])
    return [n for part in match[1].split(",") for n in spelled_out(part.join(ends))]


def anchors(page):
    """The anchors of a page's headings, as GitHub and the site make them."""
    titles = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", pages())
def test_relative_links_lead_somewhere(page):
    for link in LINK.findall(page.read_text(encoding="utf-8")):
        if "://" in link or link.startswith("mailto:"):
            continue
        name, _, anchor = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        assert target.exists(), link
        assert ROOT in (target, *target.parents), link
        if anchor:
            assert anchor in anchors(target), link


@pytest.mark.parametrize("page", pages())
def test_commands_and_configs_are_there(page):
    code = code_of(page)
    for command in re.findall(r"^(?:\$ |srun )?mimseg ([a-z]\w*)", code, re.MULTILINE):
        assert command in {*COMMANDS, "pretrain"}, command
    for name in {n for match in CONFIG.findall(code) for n in spelled_out(match)}:
        if "vit" in name and "..." not in name:
            assert find_config(name.rstrip(".,")).is_file()
    for path in re.findall(r"(?:^|[\s(])((?:tools|tests|configs)/[\w/.-]+\.py)\b", code):
        assert (ROOT / path).is_file() or path.startswith("configs/mine/"), path


def test_the_architecture_names_files_that_are_there():
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    names = set(re.findall(r"`(?:mimseg/)?([a-z_]+/[a-z_/]*(?:\.py)?)`", text))
    assert len(names) > 30
    roots = (ROOT / "mimseg", ROOT)
    assert not [name for name in names if not any((root / name).exists() for root in roots)]


def test_a_page_that_names_nothing_real_is_noticed(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("[x](no.md)\n`mimseg trian` and `mae/mae_vit-{base,no}-p16.py`\n")
    with pytest.raises(AssertionError):
        test_relative_links_lead_somewhere(page)
    with pytest.raises(AssertionError, match="trian"):
        test_commands_and_configs_are_there(page)
    page.write_text("`mimseg train mae/mae_vit-none-p16`")
    with pytest.raises(UserError, match="mae_vit-none-p16"):
        test_commands_and_configs_are_there(page)
