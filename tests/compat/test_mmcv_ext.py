"""The stand-in as a module: when it is offered, what ops it lacks say, how light it is."""

import importlib
import importlib.util
import subprocess
import sys

import pytest

import mimseg.compat
from mimseg.compat import import_hooks
from mimseg.compat.mmcv_ext_finder import MmcvExtFinder


def run_python(code, *arguments):
    """Run code in a fresh process; return what it printed, as words."""
    command = [sys.executable, "-c", code, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def test_import_mimseg_is_light():
    modules = set(run_python("import mimseg, sys; print(*sys.modules)"))
    assert "mimseg.compat" in modules
    heavy = {"mmdet", "mmseg", "mmpretrain", "timm", "open_clip", "mmcv", "mmcv._ext", "torch"}
    assert not heavy & modules


def test_registry_is_light():
    modules = set(run_python("import mimseg.registry, sys; print(*sys.modules)"))
    heavy = {"mmdet", "mmseg", "mmpretrain", "timm", "open_clip", "mmcv._ext"}
    assert "mmengine.registry" in modules and not heavy & modules


@pytest.mark.parametrize("compiled", [True, False])
def test_a_compiled_extension_wins(tmp_path, compiled):
    """A package named mmcv with, or without, an _ext of its own; both spelled find and import."""
    (tmp_path / "mmcv").mkdir()
    (tmp_path / "mmcv/__init__.py").write_text("")
    if compiled:
        (tmp_path / "mmcv/_ext.py").write_text("nms = 'compiled'")
    code = """
import sys
sys.path.insert(0, sys.argv[1])
import mimseg, importlib.util, pkgutil
print(importlib.util.find_spec("mmcv._ext").origin)
print(pkgutil.find_loader("mmcv._ext").path)
print("mmcv._ext" in sys.modules, importlib.util.find_spec("mmcv.other"))
"""
    spec, loader, loaded, other = run_python(code, tmp_path)
    expected = tmp_path / "mmcv/_ext.py" if compiled else "mmcv_ext.py"
    assert spec == loader and spec.endswith(str(expected))
    assert (loaded, other) == ("False", "None")


def test_installing_again_changes_nothing():
    before = list(sys.meta_path), dict(import_hooks._finder.mends)
    mimseg.compat.install()
    assert (sys.meta_path, import_hooks._finder.mends) == before
    assert sum(isinstance(finder, MmcvExtFinder) for finder in sys.meta_path) == 1


def test_mmcv_ops_import_and_a_missing_op_says_so_when_called():
    import torch
    from mmcv.ops import DeformConv2d

    conv = DeformConv2d(2, 2, 3)
    with pytest.raises(NotImplementedError, match="'deform_conv_forward'.*--no-build-isolation"):
        conv(torch.zeros(1, 2, 8, 8), torch.zeros(1, 18, 6, 6))


def test_every_name_is_answered_but_pythons_own():
    ext = importlib.import_module("mmcv._ext")
    assert ext.some_op is ext.some_op and ext.some_op.__name__ == "some_op"
    assert not hasattr(ext, "__path__")


def test_environment_reports_work():
    from mmcv.ops import get_compiler_version, get_compiling_cuda_version

    assert "stand-in" in get_compiler_version() and "stand-in" in get_compiling_cuda_version()


def test_a_mend_waits_for_the_import_and_runs_once(tmp_path, monkeypatch):
    (tmp_path / "late_library.py").write_text("times = 0")
    (tmp_path / "late_mend.py").write_text("def mend(module): module.times += 1")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(import_hooks._finder, "mends", dict(import_hooks._finder.mends))
    import_hooks.when_imported("late_library", "late_mend:mend")
    assert "late_mend" not in sys.modules
    library = importlib.import_module("late_library")
    import_hooks.when_imported("late_library", "late_mend:mend")
    assert library.times == 1
    import_hooks._finder.mends.pop("late_library")
    import_hooks.when_imported("late_library", "late_mend:mend")  # imported already: mended at once
    assert library.times == 2
