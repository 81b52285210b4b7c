"""The package as others get it: the names of `import mimseg`, and what the wheel holds."""

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import mimseg
from mimseg.registry import MODELS

ROOT = Path(__file__).parents[1]


def python(code, cwd, **environment):
    argv = [sys.executable, "-c", code]
    done = subprocess.run(argv, capture_output=True, text=True, cwd=cwd, env=environment or None)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_importing_loads_nothing_heavy_and_a_name_only_what_it_needs(tmp_path):
    code = """
import sys
import mimseg
heavy = {"torch", "mmengine", "mmcv", "numpy", "PIL", "cv2"}
assert not heavy & {*sys.modules}, heavy & {*sys.modules}
assert {"ViT", "load", "__version__"} <= {*dir(mimseg)}
assert issubclass(mimseg.UserError, ValueError)
assert not heavy & {*sys.modules}, heavy & {*sys.modules}
mimseg.config("mae/mae_vit-mini-p8_1xb64-40e_scenes")
assert "mmpretrain" not in sys.modules
from mmengine.registry import MODELS
vit = mimseg.ViT(arch="mini", img_size=32, patch_size=8)
assert "mmpretrain" not in sys.modules
assert type(vit) is mimseg.ViT is MODELS.get("mimseg.ViT")
"""
    python(code, tmp_path)


def test_every_name_is_there_and_no_other():
    assert {*mimseg.__all__} == {*mimseg._MODULES}
    for name in mimseg.__all__:
        assert callable(getattr(mimseg, name))
    for name in ("ViT", "MaskedImageModeling"):
        assert getattr(mimseg, name) is MODELS.get(f"mimseg.{name}")
    with pytest.raises(AttributeError, match="no attribute 'Vit'"):
        mimseg.Vit  # noqa: B018


def test_methods_by_name():
    mae = mimseg.methods()["mae"]
    assert mae.paper == "2111.06377" and mae.config == "mae/mae_vit-base-p16_8xb512-amp-300e_in1k"
    assert mae.path == Path(f"configs/{mae.config}.py")
    assert mimseg.config(mae.config).model.type == "mimseg.MaskedImageModeling"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The built wheel, unpacked; a build leaves its files in the folder that it is called in."""
    source, out = (tmp_path_factory.mktemp(name) for name in ("source", "wheel"))
    no_cache = shutil.ignore_patterns("__pycache__")
    for name in ("mimseg", "configs"):
        shutil.copytree(ROOT / name, source / name, ignore=no_cache)
    for name in ("pyproject.toml", "setup.py", "MANIFEST.in", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    for name in ("tests", "tools"):
        (source / name).mkdir()
        (source / name / "__init__.py").touch()
    code = f"from setuptools import build_meta as build; print(build.build_wheel({str(out)!r}))"
    name = python(code, source).split()[-1]
    zipfile.ZipFile(out / name).extractall(out / "site")
    return out / "site"


def files(folder):
    paths = (path for path in folder.rglob("*") if path.is_file())
    return {p.relative_to(folder).as_posix() for p in paths if "__pycache__" not in p.parts}


def test_the_wheel_holds_the_package_and_the_configs_and_no_more(wheel):
    expected = {f"mimseg/{name}" for name in files(ROOT / "mimseg")}
    expected |= {f"mimseg/configs/{name}" for name in files(ROOT / "configs")}
    info = f"mimseg-{mimseg.__version__}.dist-info"
    assert {name for name in files(wheel) if not name.startswith(info)} == expected
    assert "mimseg/py.typed" in expected
    assert "mimseg = mimseg.cli:main" in (wheel / info / "entry_points.txt").read_text()


def test_the_wheel_finds_its_configs_and_plans_a_benchmark_without_tools(wheel, tmp_path):
    code = """
import sys
sys.path.insert(0, sys.argv.pop(1))
import mimseg
from mimseg.cli import main
assert mimseg.__file__.startswith(sys.path[0])
sys.exit(main(["benchmark", "smoke", "--dry-run"]))
"""
    argv = [sys.executable, "-c", code, str(wheel)]
    done = subprocess.run(argv, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "python -m mimseg.cli scenes {work_dir}/data --train 16" in done.stdout
    assert "python -m mimseg.cli train configs/mae/mae_vit-mini" in done.stdout
    assert "tools/" not in done.stdout and "] panels-detection:" in done.stdout
