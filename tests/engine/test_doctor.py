"""`mimseg doctor` names what a machine lacks."""

import collections
import shutil
import time
from importlib import metadata
from pathlib import Path

import pytest
import torch

from mimseg import cli
from mimseg.engine import amp_optim_wrapper, doctor, machine
from mimseg.engine.doctor import GIB, MISSING, OK, POOR

Usage = collections.namedtuple("Usage", "total used free")


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Rates that are measured once would take most of the time."""
    monkeypatch.setattr(machine, "matmul_rate", lambda device, dtype: 2e11)
    monkeypatch.setattr(machine, "decode_rates", lambda: {"OpenCV": 900.0, "Pillow": 500.0})


def look(name, folder):
    """The findings of one name."""
    return [finding for finding in doctor.examine(folder) if finding.name == name]


def test_a_report_on_this_machine(tmp_path, capsys):
    start = time.monotonic()
    code = cli.main(["doctor", str(tmp_path / "runs/one")])
    assert time.monotonic() - start < 10
    text = capsys.readouterr().out
    assert code == 0, text
    for name in (
        *("python", "torch", "OpenMMLab", "mmcv ops", "GPU", "bfloat16", "matrix product"),
        *("CPU cores", "memory", "shared memory", "open files", "work dir", "free disk"),
        *("JPEG decoding", "processes", "torch.compile"),
    ):
        assert f"\n  {name}" in f"\n{text}" or f"\n! {name}" in f"\n{text}", name
    assert f"torch {metadata.version('torch')}" in text and "gloo" in text
    assert len(text.splitlines()) < 40 and max(map(len, text.splitlines())) < 110
    assert not (tmp_path / "runs").exists()  # nothing is made


def test_speeds_are_measured(monkeypatch):
    monkeypatch.undo()
    rates = machine.decode_rates(0.02)
    assert list(rates) == ["OpenCV", "Pillow"] and all(rate > 1 for rate in rates.values())
    assert machine.matmul_rate("cpu", "float32", 0.02) > 1e8


def test_a_package_that_is_missing_or_too_old(monkeypatch, capsys, tmp_path):
    versions = {"timm": None, "onedl-mmcv": "2.1.0"}
    real = doctor.installed
    monkeypatch.setattr(doctor, "installed", lambda name: versions.get(name, real(name)))
    assert cli.main(["doctor", str(tmp_path)]) == 1
    text = capsys.readouterr().out
    assert "X timm           not installed" in text and 'pip install "timm' in text
    assert "X onedl-mmcv     2.1.0" in text
    assert "a training needs: timm, onedl-mmcv" in text or "onedl-mmcv, timm" in text


def test_small_shared_memory_and_a_full_disk(monkeypatch, tmp_path):
    def usage(path):
        return Usage(64 << 20, 0, 64 << 20)

    monkeypatch.setattr(shutil, "disk_usage", usage)
    (shared,) = look("shared memory", tmp_path)
    assert shared.state == POOR and "0.1 GiB" in shared.value and "--shm-size" in shared.advice
    (disk,) = look("free disk", tmp_path)
    assert disk.state == MISSING and "make room" in disk.advice
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(9 * GIB, 0, 5 * GIB))
    assert look("shared memory", tmp_path)[0].state == OK
    assert look("free disk", tmp_path)[0].state == POOR


@pytest.mark.parametrize("kind", ["nfs4", "lustre", "cifs", "fuse.sshfs"])
def test_a_network_file_system(kind, monkeypatch, tmp_path):
    work_dir = tmp_path / "on the net/runs"
    work_dir.mkdir(parents=True)
    mounts = tmp_path / "mounts"
    place = str(work_dir.parent).replace(" ", "\\040")
    mounts.write_text(
        f"disk / ext4 rw 0 0\nserver:/x {place} {kind} rw 0 0\nproc /proc proc rw 0 0\n"
    )
    real = machine.file_system
    assert real(tmp_path, mounts) == "ext4"
    assert real(tmp_path / "on the network", mounts) == "ext4"  # its name alone begins like it
    monkeypatch.setattr(machine, "file_system", lambda folder: real(folder, mounts))
    (finding,) = look("work dir", work_dir / "later")
    assert finding.state == POOR and kind in finding.value and "over the network" in finding.advice


def test_a_work_dir_that_takes_no_checkpoint(monkeypatch, tmp_path, capsys):
    def refused(*args, **kwargs):
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(machine.os, "replace", refused)
    assert cli.main(["doctor", str(tmp_path)]) == 1
    text = capsys.readouterr().out
    assert f"X work dir       {tmp_path}" in text and "Read-only file system" in text
    assert not list(tmp_path.iterdir())


def test_a_device_without_bfloat16(monkeypatch, tmp_path):
    monkeypatch.setattr(amp_optim_wrapper, "bf16_supported", lambda device: False)
    (finding,) = look("bfloat16", tmp_path)
    assert finding.state == POOR and "float32" in finding.advice


def test_few_open_files_little_memory_one_core_and_no_compiler(monkeypatch, tmp_path):
    import resource

    monkeypatch.setattr(resource, "getrlimit", lambda kind: (256, 4096))
    monkeypatch.setattr(machine, "memory", lambda: GIB)
    monkeypatch.setattr(doctor, "usable_cores", lambda: 1)
    monkeypatch.setattr(shutil, "which", lambda name: None)
    findings = {finding.name: finding for finding in doctor.examine(tmp_path)}
    for name, word in {
        "open files": "ulimit",
        "memory": "num_workers",
        "CPU cores": "num_workers",
        "torch.compile": "leave it out",
    }.items():
        assert findings[name].state == POOR and word in findings[name].advice


def test_a_gpu_that_torch_does_not_see(monkeypatch, tmp_path):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}")
    (finding,) = look("GPU", tmp_path)
    assert finding.state == POOR and "fits the driver" in finding.advice


def test_the_limit_of_a_control_group(monkeypatch, tmp_path):
    (tmp_path / "memory.max").write_text("max\n")
    (tmp_path / "job").mkdir()
    (tmp_path / "job/memory.max").write_text(f"{GIB}\n")
    monkeypatch.setattr(machine, "_CGROUPS", tmp_path)
    real = machine._read
    cgroup = Path("/proc/self/cgroup")
    monkeypatch.setattr(machine, "_read", lambda p: "0::/job/step" if p == cgroup else real(p))
    assert machine.memory() == GIB


def test_a_library_that_breaks_is_a_finding(monkeypatch, tmp_path):
    def broken(folder):
        raise ImportError("libcudart.so: cannot open shared object file")

    monkeypatch.setitem(doctor._CHECKS, "GPU", broken)
    (finding,) = look("GPU", tmp_path)
    assert finding.state == MISSING and "libcudart.so" in finding.advice
