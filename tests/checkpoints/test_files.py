"""Reading checkpoints without running code, and finding the right file in a work dir."""

import collections
import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.logging import HistoryBuffer
from safetensors.torch import save_file

from mimseg.checkpoints.files import (
    UntrustedCheckpoint,
    checkpoint_folder,
    fault,
    find_resumable,
    read_checkpoint,
    resolve_checkpoint,
)
from mimseg.checkpoints.iteration import training_step
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
    content = {"state_dict": {"w": torch.arange(6.0)}, "meta": {"iter": 1}}
    torch.save(content | extra, path)
    return path


@pytest.fixture
def work_dir(tmp_path):
    for step in (2, 10, 4):
        save(tmp_path / f"iter_{step}.pth", meta={"iter": step, "epoch": 0})
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
        assert fault(tmp_path / name)
    assert not fault(tmp_path / "whole.pth")


def test_old_torch_format_is_loadable(tmp_path):
    torch.save({"w": torch.ones(2)}, tmp_path / "a.pth", _use_new_zipfile_serialization=False)
    assert not fault(tmp_path / "a.pth")


@pytest.fixture
def warnings(monkeypatch):
    """What is logged while a work dir is looked through."""
    messages = []
    monkeypatch.setattr(
        "mimseg.checkpoints.files.print_log", lambda text, *_: messages.append(text)
    )
    return messages


def test_the_newest_by_iteration_is_taken_and_broken_ones_are_passed_over(work_dir, warnings):
    assert find_resumable(work_dir) == str(work_dir / "iter_10.pth")
    (work_dir / "iter_10.pth").write_bytes(b"")
    assert find_resumable(work_dir) == str(work_dir / "iter_4.pth")
    assert warnings == [f"{work_dir}/iter_10.pth is passed over: it is empty"]
    for path in work_dir.glob("*.pth"):
        path.write_bytes(b"")
    assert find_resumable(work_dir) is None
    assert find_resumable(work_dir / "nothing") is None


def test_names_do_not_matter_for_which_is_the_newest(work_dir):
    save(work_dir / "epoch_3.pth", meta={"iter": 30, "epoch": 3})
    assert find_resumable(work_dir).endswith("epoch_3.pth")  # last_checkpoint names iter_10
    save(work_dir / "step_31.pth", meta={"iter": 31, "epoch": 3})
    assert find_resumable(work_dir).endswith("step_31.pth")
    save(work_dir / "epoch_4.pth", meta={"iter": 31, "epoch": 4})
    assert find_resumable(work_dir).endswith("epoch_4.pth")  # the epoch's end is behind it
    (work_dir / "last_checkpoint").unlink()
    assert find_resumable(work_dir).endswith("epoch_4.pth")


def test_best_and_temporary_files_are_not_resumed_from(tmp_path):
    names = ["best_mIoU_iter_9", ".iter_9.pth.saving", "iter_9-abcdef12", "diverged", "epoch_9_x"]
    for name in names:
        save(tmp_path / f"{name}.pth")
    assert find_resumable(tmp_path) is None


@pytest.mark.parametrize("meta", [{}, {"iter": None}, {"iter": "9"}, None])
def test_a_file_without_an_iteration_is_passed_over(work_dir, warnings, meta):
    save(work_dir / "iter_90.pth", meta=meta)
    assert find_resumable(work_dir).endswith("iter_10.pth")
    assert "iter_90.pth is passed over: it holds no training iteration" in warnings[0]


@pytest.mark.parametrize("value", [Payload(), collections.deque([1])])
def test_resuming_never_passes_over_a_whole_file_with_objects(work_dir, value):
    save(work_dir / "iter_20.pth", mine=value, meta={"iter": 20})
    with pytest.raises(UntrustedCheckpoint, match="iter_20.pth"):
        find_resumable(work_dir)
    assert resolve_checkpoint(work_dir).endswith("iter_20.pth")  # its reader refuses it
    save(work_dir / "iter_21.pth", meta={"iter": 21})
    assert find_resumable(work_dir).endswith("iter_21.pth")


def test_the_iteration_is_read_without_running_anything(tmp_path):
    FLAG.clear()
    ordered = collections.OrderedDict(a=HistoryBuffer([1.0], [1]))
    extra = {"bomb": Bomb(), "hub": ordered, "set": {1}, "array": np.arange(3)}
    save(tmp_path / "epoch_1.pth", meta={"iter": 7, "epoch": 1, "args": Payload()}, **extra)
    assert training_step(tmp_path / "epoch_1.pth") == (7, 1)
    assert not FLAG


def test_last_checkpoint_is_not_followed_out_of_the_work_dir(work_dir, tmp_path_factory, warnings):
    outside = save(tmp_path_factory.mktemp("other") / "epoch_9.pth", meta={"iter": 900})
    empty = tmp_path_factory.mktemp("empty")
    for text in (str(outside), os.path.relpath(outside, empty), os.path.relpath(outside)):
        warnings.clear()
        (empty / "last_checkpoint").write_text(text)
        assert find_resumable(empty) is None
        assert "outside of" in warnings[0] and "copy it into the folder" in warnings[0]
        with pytest.raises(UserError, match="none that loads"):
            resolve_checkpoint(empty)
    assert find_resumable(empty, folder=outside.parent) == str(outside)  # the config says so
    assert len(warnings) == 2


def test_the_checkpoint_hooks_own_folder(tmp_path):
    cfg = {"work_dir": str(tmp_path / "run"), "default_hooks": {"checkpoint": {"interval": 1}}}
    assert checkpoint_folder(cfg) == tmp_path / "run"
    cfg["default_hooks"]["checkpoint"]["out_dir"] = str(tmp_path / "disk")
    assert checkpoint_folder(cfg) == tmp_path / "disk" / "run"
    assert checkpoint_folder({"work_dir": "run"}) == Path("run")


def test_resolve(work_dir, tmp_path_factory):
    file = work_dir / "iter_2.pth"
    assert resolve_checkpoint(file) == str(file)
    assert resolve_checkpoint(str(work_dir)) == str(work_dir / "iter_10.pth")
    (work_dir / "last_checkpoint").write_text("iter_4.pth")  # written before a kill
    assert resolve_checkpoint(work_dir) == str(work_dir / "iter_10.pth")
    (work_dir / "iter_10.pth").write_bytes(b"")
    assert resolve_checkpoint(work_dir) == str(work_dir / "iter_4.pth")

    run = tmp_path_factory.mktemp("run")
    (run / "stage1").mkdir()
    save(run / "stage1" / "iter_2.pth")
    (run / "last_checkpoint").write_text("stage1/iter_2.pth")
    assert resolve_checkpoint(run) == str(run / "stage1" / "iter_2.pth")
    save(run / "named_otherwise.pth")
    (run / "last_checkpoint").write_text("/moved/from/here/named_otherwise.pth")
    assert resolve_checkpoint(run) == str(run / "named_otherwise.pth")


def test_what_is_taken_is_not_reported_as_passed_over(tmp_path, warnings):
    weights = save(tmp_path / "iter_3.pth", meta={})
    (tmp_path / "last_checkpoint").write_text("iter_3.pth")
    assert resolve_checkpoint(tmp_path) == str(weights)
    assert warnings == []
    weights.write_bytes(b"")
    with pytest.raises(UserError, match="none that loads"):
        resolve_checkpoint(tmp_path)
    assert len(warnings) == 1 and "iter_3.pth is passed over" in warnings[0]


def test_resolve_tells_what_is_missing(tmp_path):
    with pytest.raises(UserError, match="--init = .*nowhere.*nothing is there"):
        resolve_checkpoint(tmp_path / "nowhere")
    with pytest.raises(UserError, match="teacher.init = .*has none that loads.*saved one yet"):
        resolve_checkpoint(tmp_path, key="teacher.init")
    (tmp_path / "iter_1.pth").touch()
    with pytest.raises(UserError, match="has none that loads.*the warnings say what is wrong"):
        resolve_checkpoint(tmp_path)
    (tmp_path / "iter_1.pth").unlink()
    (tmp_path / "stage0").mkdir()
    (tmp_path / "stage0" / "last_checkpoint").write_text("iter_1.pth")
    with pytest.raises(UserError, match="name one of its folders: stage0"):
        resolve_checkpoint(tmp_path)
