"""Says what this machine has for a training, and what will not work or be slow."""

from __future__ import annotations

import os
import platform
import shutil
import textwrap
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import metadata, util
from pathlib import Path

from mimseg.engine import machine
from mimseg.pipeline.provenance import installed, usable_cores

GIB = 1 << 30
OK, POOR, MISSING = "ok", "poor", "missing"
_INDENT = dict(initial_indent=" " * 17, subsequent_indent=" " * 17, break_on_hyphens=False)
_MARKS = {OK: " ", POOR: "!", MISSING: "X"}
_NETWORK = tuple("nfs lustre cifs smb beegfs gpfs ceph gluster afs 9p weka".split())
_SHOWN = {
    "torch": ("torch", "torchvision"),
    "OpenMMLab": tuple(f"onedl-{n}" for n in ("mmengine", "mmcv")),
    "toolkits": tuple(f"onedl-{n}" for n in ("mmpretrain", "mmsegmentation", "mmdetection")),
    "networks": ("timm", "open_clip_torch"),
}


@dataclass(frozen=True)
class Finding:
    """A line of the report.

    Args:
        name: what was looked at.
        value: what was seen.
        state: "ok", "poor" (it will be slow, or a part will not work) or "missing" (no training).
        advice: what that means and what to do; empty where all is well.
    """

    name: str
    value: str
    state: str = OK
    advice: str = ""


def examine(work_dir: str | Path) -> list[Finding]:
    """Look at the machine, in about five seconds.

    Args:
        work_dir: where a training would write; it need not exist.
    """
    folder = machine.existing(Path(work_dir))
    findings = []
    for name, look in _CHECKS.items():
        try:
            findings += look(folder)
        except Exception as error:  # a broken library is a finding, and no end of the report
            reason = f"{type(error).__name__}: {error}".splitlines()[0][:120]
            state = MISSING if isinstance(error, ImportError) else POOR
            findings.append(Finding(name, "not known", state, f"asking failed: {reason}"))
    return findings


def report(findings: list[Finding]) -> str:
    """The findings as text for a terminal, and what they come to."""
    lines = []
    for finding in findings:
        lines.append(f"{_MARKS[finding.state]} {finding.name:<15}{finding.value}")
        if finding.advice:
            lines += textwrap.wrap(finding.advice, 99, **_INDENT)
    missing = [finding.name for finding in findings if finding.state == MISSING]
    poor = sum(finding.state == POOR for finding in findings)
    end = "nothing is missing" if not missing else f"a training needs: {', '.join(missing)}"
    return "\n".join([*lines, "", f"{end}; {poor} marked with ! will be slow or partly not work"])


def _python(_: Path) -> Iterator[Finding]:
    version, allowed = platform.python_version(), metadata.metadata("mimseg")["Requires-Python"]
    if _specifiers(allowed).contains(version):
        yield Finding("python", version)
    else:
        yield Finding("python", version, MISSING, f"mimseg needs Python {allowed}")


def _packages(_: Path) -> Iterator[Finding]:
    from packaging.requirements import Requirement

    needed = [Requirement(text) for text in metadata.requires("mimseg") or ()]
    versions = {need.name: installed(need.name) for need in needed}
    extras = dict.fromkeys(metadata.metadata("mimseg").get_all("Provides-Extra") or (), True)
    for need in needed:
        version = versions[need.name]
        fits = version is not None and need.specifier.contains(version, prereleases=True)
        if need.marker is None and not fits:
            advice = f"""mimseg needs {need}: pip install "{need}\""""
            yield Finding(need.name, version or "not installed", MISSING, advice)
        for extra in extras if need.marker is not None else ():
            if need.name != "mimseg" and need.marker.evaluate({"extra": extra}):
                extras[extra] &= fits
    for title, names in _SHOWN.items():
        row = [f"{n.removeprefix('onedl-')} {versions.get(n)}" for n in names if versions.get(n)]
        yield Finding(title, ", ".join(row))
    having = ", ".join(f"{extra} {'yes' if there else 'no'}" for extra, there in extras.items())
    yield Finding("extras", having)


def _compiled_ops(_: Path) -> Iterator[Finding]:
    mmcv = util.find_spec("mmcv")
    folders = map(Path, mmcv.submodule_search_locations or ()) if mmcv else ()
    if any(next(folder.glob("_ext.*.so"), None) for folder in folders):
        yield Finding("mmcv ops", "compiled")
        return
    advice = (
        "the ops of (Cascade) Mask R-CNN are there, others (deformable convolution) are not: "
        "build onedl-mmcv with pip install --no-build-isolation"
    )
    yield Finding("mmcv ops", "mimseg's stand-ins", POOR, advice)


def _devices(_: Path) -> Iterator[Finding]:
    import torch

    cuda = torch.cuda.device_count() if torch.cuda.is_available() else 0
    for index in range(cuda):
        facts = torch.cuda.get_device_properties(index)
        size = f"{facts.total_memory / GIB:.0f} GiB, compute capability {facts.major}.{facts.minor}"
        yield Finding(f"GPU {index}", f"{facts.name}, {size}, CUDA {torch.version.cuda}")
    if not cuda:
        advice = "a training on the CPU is for demo sizes"
        if shutil.which("nvidia-smi") is not None:
            build = f"CUDA {torch.version.cuda}" if torch.version.cuda else "CPUs alone"
            advice = f"nvidia-smi is there, and torch, built for {build}, sees no GPU: "
            advice += "install the torch that fits the driver"
        yield Finding("GPU", "none that torch sees", POOR, advice)


def _arithmetic(_: Path) -> Iterator[Finding]:
    from mmengine.device import get_device

    from mimseg.engine.amp_optim_wrapper import bf16_supported

    device = get_device()
    if bf16_supported(device):
        yield Finding("bfloat16", f"yes ({device})")
    else:
        advice = "configs with mimseg.AmpOptimWrapper train in float32, and --amp is refused"
        yield Finding("bfloat16", f"not on this {device}", POOR, advice)
    kinds = ("float32", "bfloat16") if bf16_supported(device) else ("float32",)
    rates = {kind: machine.matmul_rate(device, kind) for kind in kinds}
    text = ", ".join(f"{rate / 1e9:,.0f} GFLOP/s in {kind}" for kind, rate in rates.items())
    yield Finding("matrix product", text)


def _cores(_: Path) -> Iterator[Finding]:
    import torch

    cores, limit = usable_cores(), machine.memory()
    processes = max(1, torch.cuda.device_count() if torch.cuda.is_available() else 0)
    if cores is not None and cores < 2 * processes:
        advice = "loader processes share them with the training: set num_workers to 1 or 2"
        yield Finding("CPU cores", str(cores), POOR, advice)
    else:
        yield Finding("CPU cores", str(cores or "not known"))
    if limit is not None and limit < 4 * GIB:
        advice = "loader processes may be killed: fewer of them (num_workers), smaller batches"
        yield Finding("memory", _size(limit), POOR, advice)
    else:
        yield Finding("memory", "not known" if limit is None else _size(limit))


def _shared_memory(_: Path, place: str = "/dev/shm") -> Iterator[Finding]:
    if not Path(place).is_dir():
        yield Finding("shared memory", f"no {place}")
        return
    size = shutil.disk_usage(place).total
    advice = "loader processes die with a bus error when it is full: docker run --shm-size=8g (or "
    advice += "--ipc=host), or train_dataloader.num_workers=0"
    small = size < GIB
    yield Finding("shared memory", _size(size), POOR if small else OK, advice if small else "")


def _open_files(_: Path) -> Iterator[Finding]:
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    few = 0 <= soft < 1024
    advice = "many loader processes end in 'too many open files': ulimit -n 4096 before the command"
    yield Finding("open files", f"{soft}", POOR if few else OK, advice if few else "")


def _work_dir(folder: Path) -> Iterator[Finding]:
    kind, free = machine.file_system(folder), shutil.disk_usage(folder).free
    network = kind is not None and (
        kind.startswith(_NETWORK) or kind.startswith("fuse.") and "overlay" not in kind
    )
    value, advice = f"{folder}, {kind or 'file system not known'}", ""
    if reason := machine.why_not_replaced(folder):
        advice = f"no checkpoint can be saved there ({reason}): name another --work-dir"
        yield Finding("work dir", value, MISSING, advice)
    elif network:
        advice = "over the network: saving waits for it, and locks may not hold between machines; "
        advice += "data are best read from a local disk"
        yield Finding("work dir", value, POOR, advice)
    else:
        yield Finding("work dir", value)
    if free < 10 * GIB:
        advice = "a checkpoint of ViT-B with its optimizer takes about 1 GiB, and several are kept"
        state = MISSING if free < GIB // 8 else POOR
        yield Finding("free disk", _size(free), state, f"{advice}: make room")
    else:
        yield Finding("free disk", _size(free))


def _decoding(_: Path) -> Iterator[Finding]:
    rates = machine.decode_rates()
    text = ", ".join(f"{rate:.0f} images/s with {name}" for name, rate in rates.items())
    slow = rates["OpenCV"] < 100
    advice = "one core decodes few images: more loader processes, or smaller image files"
    yield Finding(
        "JPEG decoding", f"{text} (one core)", POOR if slow else OK, advice if slow else ""
    )


def _distributed(_: Path) -> Iterator[Finding]:
    import torch
    from torch import distributed

    kinds = [k for k in ("gloo", "nccl", "mpi") if getattr(distributed, f"is_{k}_available")()]
    if torch.cuda.is_available() and torch.cuda.device_count() > 1 and "nccl" not in kinds:
        advice = "several GPUs cannot train together: install a torch that has nccl"
        yield Finding("processes", ", ".join(kinds) or "none", POOR, advice)
    else:
        yield Finding("processes", ", ".join(kinds) or "none")


def _compiler(_: Path) -> Iterator[Finding]:
    import torch

    names = [os.environ.get("CXX", ""), "c++", "g++", "clang++"]
    name = next((name for name in names if name and shutil.which(name)), None)
    lacking = "" if name else "no C++ compiler"
    if torch.cuda.is_available() and util.find_spec("triton") is None:
        lacking = "no triton"
    if lacking:
        advice = "compile=dict(...) in a config fails: install one, or leave it out"
        yield Finding("torch.compile", lacking, POOR, advice)
    else:
        yield Finding("torch.compile", f"with {name}")


def _specifiers(text: str):
    from packaging.specifiers import SpecifierSet

    return SpecifierSet(text)


def _size(count: int) -> str:
    return f"{count / GIB:.1f} GiB" if count < 100 * GIB else f"{count / GIB:.0f} GiB"


_CHECKS: dict[str, Callable[[Path], Iterator[Finding]]] = {
    "python": _python,
    "packages": _packages,
    "mmcv ops": _compiled_ops,
    "GPU": _devices,
    "arithmetic": _arithmetic,
    "CPU": _cores,
    "shared memory": _shared_memory,
    "open files": _open_files,
    "work dir": _work_dir,
    "JPEG decoding": _decoding,
    "processes": _distributed,
    "torch.compile": _compiler,
}
