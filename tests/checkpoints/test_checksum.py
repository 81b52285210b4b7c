"""Checksums of checkpoints: what was saved is known from what came out of a failing disk."""

import os
import subprocess

import pytest
import torch

from mimseg.checkpoints.checksum import damage, remove_orphans, sealed, sidecar, write_checksum
from mimseg.checkpoints.files import find_resumable, read_checkpoint, resolve_checkpoint
from mimseg.errors import UserError


class Killed(BaseException):
    """Stands for a kill."""


def save(path, iteration=1, **options):
    content = {"state_dict": {"w": torch.full((5000,), float(iteration))}}
    torch.save(content | {"meta": {"iter": iteration, "epoch": 0}}, path, **options)
    return path


def put(path, iteration):
    with sealed(path, path.with_name(f".{path.name}.saving")) as temporary:
        save(temporary, iteration)


def flip(path, at=0.5):
    data = bytearray(path.read_bytes())
    data[int(at * len(data))] ^= 4
    path.write_bytes(data)


def test_sha256sum_reads_it(tmp_path):
    put(tmp_path / "epoch_1.pth", 1)
    check = ["sha256sum", "-c", "epoch_1.pth.sha256"]
    assert subprocess.run(check, cwd=tmp_path, capture_output=True).returncode == 0
    assert sorted(p.name for p in tmp_path.iterdir()) == ["epoch_1.pth", "epoch_1.pth.sha256"]


@pytest.mark.parametrize("with_sum", [True, False])
@pytest.mark.parametrize("fault", ["flipped", "cut", "empty"])
def test_damage_is_noticed_with_a_sum_and_without(tmp_path, with_sum, fault):
    path = save(tmp_path / "epoch_1.pth")
    if with_sum:
        write_checksum(path)
    assert damage(path) == ""
    if fault == "flipped":  # torch reads it without a word
        flip(path)
        assert torch.load(path)["state_dict"]["w"].shape == (5000,)
    else:
        os.truncate(path, 0 if fault == "empty" else 9000)
    reasons = {"flipped": "CRC", "cut": "cut short", "empty": "empty"}
    reason = "SHA-256 is not" if with_sum and fault != "empty" else reasons[fault]
    assert reason in damage(path)
    for read in (read_checkpoint, lambda p: read_checkpoint(p, mmap=True)):
        with pytest.raises(UserError, match=f"epoch_1.pth.*undamaged.*{reason}.*Fix: copy"):
            read(path)


def test_a_wrong_sum_counts_and_an_unreadable_one_does_not(tmp_path):
    path = save(tmp_path / "epoch_1.pth")
    sidecar(path).write_text("0" * 64 + "  epoch_1.pth\n")
    assert "SHA-256 is not that in epoch_1.pth.sha256" in damage(path)
    sidecar(path).write_bytes(b"\xff\x00no sum")
    assert damage(path) == ""
    flip(path)
    assert "CRC" in damage(path)


def test_files_of_other_kinds_are_left_to_their_readers(tmp_path):
    old = save(tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    assert damage(old) == ""
    torch.serialization.set_crc32_options(False)
    try:
        assert damage(save(tmp_path / "no_crc.pth")) == ""
    finally:
        torch.serialization.set_crc32_options(True)
    assert "cannot be read" in damage(tmp_path / "nowhere.pth")


def test_the_next_newest_is_taken(tmp_path):
    for number in (1, 2, 3):
        put(tmp_path / f"epoch_{number}.pth", number)
    flip(tmp_path / "epoch_3.pth")
    assert find_resumable(tmp_path) == resolve_checkpoint(tmp_path)
    assert find_resumable(tmp_path).endswith("epoch_2.pth")


def test_a_file_is_read_once_unless_it_changes(tmp_path, monkeypatch):
    reads = []
    from mimseg.checkpoints import checksum

    original = checksum._sha256
    monkeypatch.setattr(checksum, "_sha256", lambda path: reads.append(path) or original(path))
    put(tmp_path / "epoch_1.pth", 1)
    reads.clear()
    read_checkpoint(find_resumable(tmp_path))
    assert len(reads) == 1
    put(tmp_path / "epoch_1.pth", 2)
    reads.clear()
    read_checkpoint(tmp_path / "epoch_1.pth")
    assert len(reads) == 1


def steps_of(monkeypatch, stop):
    """Let the process be killed before its `stop`-th change of the folder; return the changes."""
    changes = []

    def counted(name, original):
        def change(*args, **options):
            if len(changes) == stop:
                raise Killed
            changes.append(name)
            return original(*args, **options)

        return change

    for name in ("replace", "unlink"):
        monkeypatch.setattr(f"os.{name}", counted(name, getattr(os, name)))
    return changes


@pytest.mark.parametrize("before", [None, "sealed", "plain", "orphan"])
@pytest.mark.parametrize("stop", range(6))
def test_the_judgment_is_right_at_every_moment_of_a_kill(tmp_path, monkeypatch, before, stop):
    path = tmp_path / "step_9.pth"
    if before in ("sealed", "orphan"):
        put(path, 1)
    if before == "plain":
        save(path, 1)
    if before == "orphan":  # pruned by a run that was killed before the sum went, too
        path.unlink()
    with monkeypatch.context() as patch:
        changes = steps_of(patch, stop)
        try:
            put(path, 2)
            finished = True
        except Killed:
            finished = False
    assert len(changes) <= 4  # all moments are among those tried
    if path.exists():
        assert damage(path) == ""
        kept = read_checkpoint(path)["meta"]["iter"]
        assert kept == 2 if finished else kept in (1, 2)
        flip(path)
        assert damage(path)
    else:
        assert before in (None, "orphan")
        remove_orphans(tmp_path)
        assert not sidecar(path).exists()
    assert finished or stop < 5


def test_orphans_alone_are_removed(tmp_path):
    put(tmp_path / "epoch_1.pth", 1)
    (tmp_path / "epoch_0.pth.sha256").write_text("0" * 64)
    (tmp_path / "data.tar.sha256").write_text("0" * 64)
    remove_orphans(tmp_path)
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["data.tar.sha256", "epoch_1.pth", "epoch_1.pth.sha256"]
