"""A config says only what differs from its bases, and is at most three files deep."""

import ast
import copy
import re
from functools import cache

import pytest
from mmengine.config import Config, ConfigDict

from shipped import ROOT, shipped_configs  # isort: skip

CONFIGS = ROOT / "configs"
PATHS = [path.relative_to(CONFIGS) for path in shipped_configs()]
DEPTH = 3  # a variant, its main leaf, _base_


def bases_of(path):
    """The files that a config's `_base_` names, relative to configs/."""
    for node in ast.parse((CONFIGS / path).read_text()).body:
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "_base_":
            names = ast.literal_eval(node.value)
            names = [names] if isinstance(names, str) else names
            folder = (CONFIGS / path).parent
            return [(folder / name).resolve().relative_to(CONFIGS) for name in names]
    return []


def depth_of(path):
    return 1 + max((depth_of(base) for base in bases_of(path)), default=0)


@cache
def resolved(path):
    return Config.fromfile(CONFIGS / path, import_custom_modules=False).to_dict()


def inherited(path):
    """What a config has from its bases before it says anything."""
    return {key: value for base in bases_of(path) for key, value in resolved(base).items()}


def said(path):
    """What a config assigns itself. `_base_` is what it inherits, as mmengine has it."""
    text = (CONFIGS / path).read_text()
    tree = ast.parse(re.sub(r"{{\s*(_base_[\w.]+)\s*}}", r"\1", text))
    tree.body = [
        node
        for node in tree.body
        if not (isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "_base_")
    ]
    names = {"_base_": ConfigDict(copy.deepcopy(inherited(path)))}
    exec(compile(tree, str(path), "exec"), names)
    return {k: v for k, v in names.items() if k != "_base_" and not k.startswith("__")}


def repeated(settings, base, prefix=""):
    """Dotted keys whose value the base gives already; a list counts as a whole."""
    found = []
    for key, value in settings.items():
        if key not in base:
            continue
        if isinstance(value, dict) and isinstance(base[key], dict):
            if not value.get("_delete_"):
                found += repeated(value, base[key], f"{prefix}{key}.")
        elif value == base[key] and type(value) is type(base[key]):
            found.append(prefix + key)
    return found


@pytest.mark.parametrize("path", PATHS, ids=str)
def test_says_only_what_differs(path):
    assert repeated(said(path), inherited(path)) == []


@pytest.mark.parametrize("path", PATHS, ids=str)
def test_depth(path):
    assert depth_of(path) <= DEPTH


def test_no_base_has_one_user():
    """It would hide what that config is."""
    users = {path: set() for path in PATHS if path.parts[0] == "_base_"}
    for path in PATHS:
        for base in bases_of(path):
            if base in users:
                users[base].add(path)
    assert [str(base) for base, of in users.items() if len(of) < 2] == []


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        (dict(x=1, y=3), ["x"]),
        (dict(d=dict(a=1, b=3)), ["d.a"]),
        (dict(d=dict(_delete_=True, a=1)), []),
        (dict(steps=[dict(type="A")]), ["steps"]),
        (dict(steps=[dict(type="A", size=2)]), []),
        (dict(x=1.0, new=2), []),
    ],
)
def test_a_repetition_is_seen(settings, expected):
    base = dict(x=1, y=2, d=dict(a=1, b=2), steps=[dict(type="A")])
    assert repeated(settings, base) == expected
