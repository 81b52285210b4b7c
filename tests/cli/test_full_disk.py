"""A disk that is full ends a command in one line that names the place."""

import errno
import resource
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from PIL import Image

from mimseg.cli.convert import main as convert
from mimseg.cli.masks2coco import main as masks2coco
from mimseg.cli.pretrain import main as pretrain
from mimseg.cli.scenes import main as scenes
from mimseg.cli.train import main as train
from mimseg.engine import prepare
from mimseg.errors import EndOfRun, UserError
from mimseg.files import report_unwritable
from mimseg.registry import MODELS

MAE = "mae/mae_vit-mini-p8_1xb64-40e_scenes"


@contextmanager
def largest_file(size):
    """Within the block, the system refuses to write files beyond `size` bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.fixture
def images(tmp_path):
    folder = tmp_path / "images"
    folder.mkdir()
    for number in range(4):
        Image.fromarray(np.full((64, 64), number, np.uint8)).save(folder / f"{number}.png")
    return folder


@pytest.fixture
def checkpoint(tmp_path):
    vit = MODELS.build(dict(type="mimseg.ViT", arch="mini", img_size=32, patch_size=8))
    weights = {f"backbone.{name}": value for name, value in vit.state_dict().items()}
    torch.save({"state_dict": weights}, tmp_path / "vit.pth")
    return tmp_path / "vit.pth"


def one_line(capsys, *words):
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1 and all(word in lines[0] for word in (*words, "Fix: free some space"))


@pytest.mark.parametrize("moment", ["at the start", "once it runs"])
def test_a_training(images, tmp_path, capsys, monkeypatch, moment):
    if moment == "once it runs":  # the disk fills up behind the look at it
        monkeypatch.setattr(prepare, "_LOGS", 1)
    argv = [MAE, "--work-dir", str(tmp_path / "run"), "--cfg-options", f"data_root={images}"]
    argv += ["train_dataloader.batch_size=4", "train_dataloader.num_workers=0"]
    with largest_file(20_000):
        assert train([*argv, "train_dataloader.persistent_workers=False"]) == 2
    one_line(capsys, f"--work-dir = '{tmp_path}/run'", "File too large")


def test_a_pretraining(images, tmp_path, capsys, monkeypatch):
    argv = [str(images), "--arch", "mini", "--out", str(tmp_path / "run"), "--batch", "4"]
    with largest_file(20_000):
        assert pretrain(argv) == 2
    one_line(capsys, f"--work-dir = '{tmp_path}/run'", "File too large")


@pytest.mark.parametrize("name", ["out.pth", "out.safetensors"])
def test_a_conversion(checkpoint, tmp_path, capsys, name):
    with largest_file(20_000):
        assert convert([str(checkpoint), str(tmp_path / name)]) == 2
    one_line(capsys, f"OUT = '{tmp_path / name}'", "File too large")
    assert not list(tmp_path.glob("*out*"))


def test_data(images, tmp_path, capsys):
    with largest_file(500):
        assert scenes([str(tmp_path / "scenes"), "--train", "1", "--workers", "1"]) == 2
        one_line(capsys, f"OUT = '{tmp_path}/scenes'", "File too large")
    things = ["--things", *(f"{number}:thing{number}" for number in range(1, 4))]
    with largest_file(100):
        assert masks2coco([*[str(images)] * 2, str(tmp_path / "coco.json"), *things]) == 2
    one_line(capsys, f"OUT = '{tmp_path}/coco.json'", "File too large")


def test_what_is_not_about_writing_there_passes(tmp_path):
    full = OSError(errno.ENOSPC, "No space left on device")
    with pytest.raises(UserError, match="--out = .*No space left"), report_unwritable("--out", "x"):
        raise full
    for error in (
        OSError(errno.ENOENT, "No such file", str(tmp_path / "a")),
        PermissionError(errno.EACCES, "Permission denied", "/data/image.jpg"),
        ValueError("no"),
        UserError("key", 1, expected="2"),
        EndOfRun("stopped", 75),
    ):
        with pytest.raises(type(error)) as raised, report_unwritable("--out", tmp_path):
            raise error
        assert raised.value is error
