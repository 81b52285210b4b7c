"""Reading checkpoints without running code, and finding the right file in a work dir."""

import collections
import os
import pickle

import numpy as np
import pytest
import torch
from mmengine.logging import HistoryBuffer
from safetensors.torch import save_file

from mimseg.checkpoints.files import (
    UntrustedCheckpoint,
    find_resumable,
    is_loadable,
    read_checkpoint,
    resolve_checkpoint,
)
from mimseg.errors import UserError

FLAG = []


class Bomb:
    """A pickle that runs code when it is loaded."""

    def __reduce__(self):
        return FLAG.append, (1,)


class Payload:
    """A harmless class of somebody's own, as argparse.Namespace is in many released files."""


class Evasion:
    """`getattr` is let through for log buffers: it must not reach anything else."""

    def __init__(self, owner, name):
        self.args = owner, name

    def __reduce__(self):
        return getattr, self.args


def save(path, **extra):
    torch.save({"state_dict": {"w": torch.arange(6.0)}, "meta": {"iter": 1}, **extra}, path)
    return path


@pytest.fixture
def work_dir(tmp_path):
    for step in (2, 10, 4):
        save(tmp_path / f"iter_{step}.pth", step=step)
    (tmp_path / "last_checkpoint").write_text("/somewhere/else/iter_10.pth")
    return tmp_path


def test_reads_what_mmengine_writes(tmp_path):
    buffer = HistoryBuffer([1.0, 2.0], [1, 1])
    hub = {"log_scalars": collections.OrderedDict(loss=buffer), "runtime_info": {"best": 0.5}}
    kinds = [np.float64(3), np.float32(3), np.int64(3), np.bool_(True), np.arange(3), np.uint8(3)]
    extra = {"text": np.array(["a", "b"]), "slice": slice(1, 2)}
    path = save(tmp_path / "a.pth", message_hub=hub, numbers=kinds, **extra)
    loaded = read_checkpoint(path)
    assert loaded["message_hub"]["log_scalars"]["loss"].mean() == 1.5
    for ours, theirs in zip(loaded["numbers"], kinds, strict=True):
        assert np.array_equal(ours, theirs) and ours.dtype == theirs.dtype
    assert list(loaded["text"]) == ["a", "b"] and loaded["slice"] == slice(1, 2)
    assert HistoryBuffer not in torch.serialization.get_safe_globals()  # allowed for the call only


def test_reads_safetensors(tmp_path):
    save_file({"w": torch.arange(3.0)}, tmp_path / "a.safetensors")
    assert torch.equal(read_checkpoint(tmp_path / "a.safetensors")["w"], torch.arange(3.0))
    (tmp_path / "b.safetensors").write_bytes(b"not that")
    with pytest.raises(UserError, match="b.safetensors.*cut short or of another kind"):
        read_checkpoint(tmp_path / "b.safetensors")


@pytest.mark.parametrize("zipped", [True, False])
def test_code_is_refused_unless_trusted(tmp_path, zipped):
    FLAG.clear()
    torch.save(
        {"state_dict": {"w": torch.ones(1)}, "args": Payload(), "bomb": Bomb()},
        tmp_path / "a.pth",
        _use_new_zipfile_serialization=zipped,
    )
    with pytest.raises(UntrustedCheckpoint, match="a.pth.*code of.*trust=True"):
        read_checkpoint(tmp_path / "a.pth")
    assert not FLAG
    assert isinstance(read_checkpoint(tmp_path / "a.pth", trust=True)["args"], Payload)


def test_bomb_does_not_go_off(tmp_path):
    torch.save({"bomb": Runs()}, tmp_path / "a.pth")
    with pytest.raises(UntrustedCheckpoint):
        read_checkpoint(tmp_path / "a.pth")
    assert "MIMSEG_BOMB" not in os.environ
    read_checkpoint(tmp_path / "a.pth", trust=True)
    assert os.environ.pop("MIMSEG_BOMB") == "1"


class Runs:
    def __reduce__(self):
        return set_flag, ()


def set_flag():
    os.environ["MIMSEG_BOMB"] = "1"


@pytest.mark.parametrize("owner, name", [(HistoryBuffer, "__init__"), (torch.Tensor, "numpy")])
def test_getattr_serves_log_buffers_alone(tmp_path, owner, name):
    torch.save({"x": Evasion(owner, name)}, tmp_path / "a.pth")
    with pytest.raises(UntrustedCheckpoint):
        read_checkpoint(tmp_path / "a.pth")


def test_torchscript_is_told_apart(tmp_path):
    module = torch.jit.script(torch.nn.Linear(2, 2))
    torch.jit.save(module, tmp_path / "a.pt")
    with pytest.raises(UntrustedCheckpoint, match="TorchScript"):
        read_checkpoint(tmp_path / "a.pt")
    weights = read_checkpoint(tmp_path / "a.pt", trust=True)["state_dict"]
    assert torch.equal(weights["weight"], module.weight)


def test_what_is_no_checkpoint_is_named(tmp_path):
    with pytest.raises(UserError, match="nowhere.pth.*an existing checkpoint file"):
        read_checkpoint(tmp_path / "nowhere.pth")
    torch.save([1, 2], tmp_path / "list.pth")
    with pytest.raises(UserError, match="the file holds a list"):
        read_checkpoint(tmp_path / "list.pth")
    for name, content in {
        "text.pth": b"hello",
        "empty.pth": b"",
        "plain.pth": pickle.dumps({"a": 1}),
        "short.pth": save(tmp_path / "whole.pth").read_bytes()[:-50],
    }.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(UserError, match=name):
            read_checkpoint(tmp_path / name)
        assert not is_loadable(tmp_path / name)
    assert is_loadable(tmp_path / "whole.pth")


def test_old_torch_format_is_loadable(tmp_path):
    torch.save({"w": torch.ones(2)}, tmp_path / "a.pth", _use_new_zipfile_serialization=False)
    assert is_loadable(tmp_path / "a.pth")


def test_newest_by_number_and_broken_ones_passed_over(work_dir, monkeypatch):
    told = []
    monkeypatch.setattr("mimseg.checkpoints.files.print_log", lambda text, *_: told.append(text))
    assert find_resumable(work_dir) == str(work_dir / "iter_10.pth")
    (work_dir / "iter_10.pth").write_bytes(b"")
    assert find_resumable(work_dir) == str(work_dir / "iter_4.pth")
    assert told == [f"{work_dir}/iter_10.pth does not load; passed over"]
    for path in work_dir.glob("*.pth"):
        path.write_bytes(b"")
    assert find_resumable(work_dir) is None
    assert find_resumable(work_dir / "nothing") is None


def test_best_and_temporary_files_are_not_resumed_from(tmp_path):
    save(tmp_path / "best_mIoU_iter_9.pth")
    save(tmp_path / ".iter_9.pth.saving")
    save(tmp_path / "iter_9-abcdef12.pth")
    assert find_resumable(tmp_path) is None


def test_epochs_and_iterations_do_not_compare(work_dir):
    save(work_dir / "epoch_3.pth")
    assert find_resumable(work_dir).endswith("iter_10.pth")
    (work_dir / "last_checkpoint").write_text(str(work_dir / "epoch_3.pth"))
    assert find_resumable(work_dir).endswith("epoch_3.pth")


@pytest.mark.parametrize("value", [Payload(), collections.deque([1])])
def test_resuming_never_passes_over_a_whole_file_with_objects(work_dir, value):
    save(work_dir / "iter_20.pth", mine=value)
    with pytest.raises(UntrustedCheckpoint, match="iter_20.pth"):
        find_resumable(work_dir)


def test_resolve(work_dir, tmp_path_factory):
    file = work_dir / "iter_2.pth"
    assert resolve_checkpoint(file) == str(file)
    # the dir was moved: what it names is looked for inside
    assert resolve_checkpoint(str(work_dir)) == str(work_dir / "iter_10.pth")
    (work_dir / "last_checkpoint").write_text("iter_4.pth")
    assert resolve_checkpoint(work_dir) == str(work_dir / "iter_4.pth")
    (work_dir / "iter_4.pth").write_bytes(b"")
    assert resolve_checkpoint(work_dir) == str(work_dir / "iter_10.pth")
    (work_dir / "last_checkpoint").unlink()
    assert resolve_checkpoint(work_dir) == str(work_dir / "iter_10.pth")

    run = tmp_path_factory.mktemp("run")
    (run / "stage1").mkdir()
    save(run / "stage1" / "iter_2.pth")
    (run / "last_checkpoint").write_text("stage1/iter_2.pth")
    assert resolve_checkpoint(run) == str(run / "stage1" / "iter_2.pth")


def test_resolve_tells_what_is_missing(tmp_path):
    with pytest.raises(UserError, match="--init = .*nowhere.*nothing is there"):
        resolve_checkpoint(tmp_path / "nowhere")
    with pytest.raises(UserError, match="teacher.init = .*has none that loads"):
        resolve_checkpoint(tmp_path, key="teacher.init")
    (tmp_path / "stage0").mkdir()
    (tmp_path / "stage0" / "last_checkpoint").write_text("iter_1.pth")
    with pytest.raises(UserError, match="name one of its folders: stage0"):
        resolve_checkpoint(tmp_path)
