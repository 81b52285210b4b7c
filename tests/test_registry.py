"""Names resolve lazily, from every scope, and `import mimseg` stays light."""

import subprocess
import sys
from importlib import import_module
from itertools import product

import pytest
from mmengine.registry import MODELS as ROOT

from mimseg import registry

TABLES = [t for t in vars(registry).values() if isinstance(t, registry.LazyRegistry)]
NAMES = [(table, name) for table in TABLES for name in table.index]


@pytest.mark.parametrize(("table", "name"), NAMES, ids=[name for _, name in NAMES])
def test_every_name_in_the_index_is_registered_by_its_module(table, name):
    cls = table.get(name)
    assert cls is not None and cls.__name__ == name
    assert cls.__module__ == table.index[name]


@pytest.mark.parametrize("scope", ["mmpretrain", "mmseg", "mmdet"])
def test_resolves_from_every_scope(scope):
    table = import_module(f"{scope}.registry").MODELS
    assert table.get("mimseg.ViT") is registry.MODELS.get("ViT")
    assert table.get("mimseg.NoSuchThing") is None


def test_the_algorithm_is_registered_with_mmpretrain_too():
    cls = registry.MODELS.get("MaskedImageModeling")
    assert ROOT.get("mmpretrain.MaskedImageModeling") is cls


def test_a_lookup_imports_only_what_it_needs():
    code = (
        "import sys, mimseg\n"
        "heavy = ('mmdet', 'mmseg', 'mmpretrain', 'timm', 'open_clip', 'mmcv')\n"
        "assert not [m for m in heavy if m in sys.modules], 'import mimseg'\n"
        "from mimseg.registry import MODELS\n"
        "MODELS.get('mimseg.ViT')\n"
        "found = [m for m in ('mmdet', 'mmseg', 'mmpretrain', 'timm', 'open_clip')"
        " if m in sys.modules]\n"
        "assert not found, found\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.fixture
def own_names():
    """Names that a test registers; they are removed at its end."""
    names = ["MyLoss", "MyHead", "MySecondHead"]
    yield names
    for table, name in product((registry.MODELS, ROOT), names):
        table._module_dict.pop(name, None)


def test_a_class_of_a_users_own_file_is_found_by_its_plain_name_in_every_scope(own_names):
    @registry.MODELS.register_module()
    class MyLoss:
        pass

    @registry.MODELS.register_module(name=own_names[1:])
    class Another:
        pass

    for scope in ("mimseg", "mmpretrain", "mmseg"):
        table = import_module(f"{scope}.registry").MODELS
        assert table.get("MyLoss") is table.get("mimseg.MyLoss") is MyLoss
        assert table.get("MyHead") is table.get("MySecondHead") is Another
    assert ROOT.get("ViT") is None  # the package's own need their prefix
