"""Modules by the names that they had before version 0.2."""

import sys
from importlib import import_module

import pytest

from mimseg.compat.old_names import OLD_NAMES, install_old_names


@pytest.mark.parametrize("old", OLD_NAMES)
def test_an_old_name_gives_the_same_classes(old, monkeypatch):
    install_old_names()
    monkeypatch.delitem(sys.modules, old, raising=False)
    with pytest.warns(DeprecationWarning, match=f"{old} is now {OLD_NAMES[old]}"):
        module = import_module(old)
    new = import_module(OLD_NAMES[old])
    public = [name for name in vars(new) if not name.startswith("_")]
    assert all(getattr(module, name) is getattr(new, name) for name in public)


def test_a_name_that_never_was_is_no_module():
    with pytest.raises(ModuleNotFoundError):
        import_module("mimseg.algorithms.no_such_module")
