"""The tensors of a checkpoint in parts, one file per process: read whole, or not at all."""

import shutil

import pytest
import torch
from mmengine.runner.checkpoint import load_checkpoint

from mimseg.checkpoints.checksum import damage, sealed, shards_of
from mimseg.checkpoints.files import find_resumable, read_checkpoint
from mimseg.checkpoints.shards import (
    Shards,
    folder_for,
    folders_of,
    remove_unused,
    take,
    tensors_of,
)
from mimseg.errors import UserError

pytestmark = pytest.mark.filterwarnings("ignore:torch.distributed is disabled")


def content(step):
    torch.manual_seed(step)
    return {
        "meta": {"iter": step, "epoch": 0},
        "state_dict": {"weight": torch.randn(5, 3), "half": torch.randn(4).bfloat16(), "note": "a"},
        "optimizer": {
            "state": {0: {"step": torch.tensor(3.0), "exp_avg": torch.randn(5, 3)}},
            "param_groups": [{"lr": 0.1, "params": [0]}],
        },
    }


def save(path, step):
    """As the checkpoint hook does, with one process."""
    checkpoint, before = content(step), folders_of(path)
    shards = Shards(folder_for(path), tensors=tensors_of(checkpoint))
    shards.write()()
    take(checkpoint, shards.folder)
    with sealed(path, path.with_name(f".{path.name}.saving"), shards.move()) as temporary:
        torch.save(checkpoint, temporary)
    for folder in before:
        shutil.rmtree(folder)


@pytest.fixture
def work_dir(tmp_path):
    save(tmp_path / "iter_2.pth", 2)
    save(tmp_path / "iter_4.pth", 4)
    return tmp_path


def part(work_dir, step=4):
    return next((work_dir / f"iter_{step}.shards").iterdir())


def test_it_is_read_as_a_whole_one(work_dir):
    assert find_resumable(work_dir) == str(work_dir / "iter_4.pth")
    one, two = content(4), read_checkpoint(work_dir / "iter_4.pth")
    assert list(two) == list(one) and list(two["state_dict"]) == list(one["state_dict"])
    assert one["state_dict"].pop("note") == two["state_dict"].pop("note")
    torch.testing.assert_close(two, one, rtol=0, atol=0)
    plain = torch.load(work_dir / "iter_4.pth", weights_only=True)
    assert plain["state_dict"]["weight"] is None


def test_mmengine_reads_it(work_dir):
    model = torch.nn.Linear(3, 5, bias=False)
    load_checkpoint(model, str(work_dir / "iter_4.pth"))
    assert torch.equal(model.weight, content(4)["state_dict"]["weight"])


@pytest.mark.parametrize("fault", ["flipped", "cut short", "removed", "folder removed"])
def test_a_damaged_part_is_no_whole_checkpoint(work_dir, fault):
    path = part(work_dir)
    data = bytearray(path.read_bytes())
    if fault == "flipped":
        data[-1] ^= 1
        path.write_bytes(data)
    elif fault == "cut short":
        path.write_bytes(data[:-8])
    elif fault == "removed":
        path.unlink()
    else:
        shutil.rmtree(path.parent)
    words = "SHA-256 is not that in iter_4.pth.sha256" if path.exists() else "is missing"
    assert f"iter_4.shards/{path.name}" in damage(work_dir / "iter_4.pth")
    assert words in damage(work_dir / "iter_4.pth")
    assert find_resumable(work_dir) == str(work_dir / "iter_2.pth")


@pytest.mark.parametrize(
    ("lost", "words"),
    [("part", "not all of .* is there"), ("folder", "its tensors in iter_4.shards beside it")],
)
def test_what_was_copied_without_checksum_and_parts(work_dir, lost, words):
    (work_dir / "iter_4.pth.sha256").unlink()
    if lost == "part":
        part(work_dir).unlink()
    else:
        shutil.rmtree(work_dir / "iter_4.shards")
    with pytest.raises(UserError, match=words):
        read_checkpoint(work_dir / "iter_4.pth")
    assert find_resumable(work_dir) == str(work_dir / "iter_2.pth")


def test_a_part_that_cannot_be_written_is_the_systems_error(tmp_path):
    (tmp_path / "file").touch()
    shards = Shards(tmp_path / "file" / "iter_2.shards", tensors=tensors_of(content(2)))
    with pytest.raises(NotADirectoryError):
        shards.write()


def test_a_stream_has_no_folder(work_dir):
    from mimseg.checkpoints.files import load_data

    with open(work_dir / "iter_4.pth", "rb") as stream, pytest.raises(UserError, match="its path"):
        load_data(stream, trust=False)


def test_a_step_that_is_saved_again_never_lacks_its_parts(work_dir):
    save(work_dir / "iter_4.pth", 5)
    assert [folder.name for folder in folders_of(work_dir / "iter_4.pth")] == ["iter_4.shards-2"]
    assert read_checkpoint(work_dir / "iter_4.pth")["meta"]["iter"] == 5


def test_parts_without_a_checkpoint_are_removed(work_dir):
    (work_dir / "iter_6.shards").mkdir()  # killed before the checkpoint came
    (work_dir / "iter_4.shards-2").mkdir()
    shutil.copytree(work_dir / "iter_2.shards", work_dir / "iter_2.shards-2")
    (work_dir / "iter_2.pth.sha256").unlink()  # killed before it was known which one is used
    remove_unused(work_dir, shards_of)
    kept = sorted(folder.name for folder in work_dir.glob("*.shards*"))
    assert kept == ["iter_2.shards", "iter_2.shards-2", "iter_4.shards"]


def test_all_processes_write_to_one_place(work_dir):
    """Also where some see the folder of an earlier save of the step, and others do not yet."""
    path = work_dir / "iter_4.pth"
    first, second = Shards(path.with_suffix(".shards")), Shards(folder_for(path))
    assert second.folder.name == "iter_4.shards-2" and first.temporary == second.temporary
