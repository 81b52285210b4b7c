"""Trains at a very small size in forked processes, to be interrupted and compared."""

from __future__ import annotations

import multiprocessing.process
import multiprocessing.util
import os
import signal
import socket
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from contextlib import redirect_stdout
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import torch

from mimseg.checkpoints.files import find_resumable, read_checkpoint
from mimseg.cli.scenes import main as make_scenes
from mimseg.errors import exit_code
from mimseg.files import read_json, report_unwritable

IMAGES = 24  # unlabeled ones and labeled ones; 8 to validate on
SHORT = [
    dict(type="LinearLR", start_factor=0.1, begin=0, end=4, by_epoch=False),
    dict(type="CosineAnnealingLR", begin=4, end=12, by_epoch=False),
]


@dataclass(frozen=True)
class Run:
    """A shipped config at a size that trains in seconds.

    Args:
        config: its name.
        options: settings.
        stages: names of the stages' folders; ("",) for a run without stages.
        boundary: the step of the last stage after which a checkpoint of the schedule is there.
        middle: a step of the last stage, some steps after it.
    """

    config: str
    options: dict[str, Any]
    stages: tuple[str, ...] = ("",)
    boundary: int = 6
    middle: int = 8


PRETRAIN = {"train_cfg.max_epochs": 2, "param_scheduler": SHORT, "default_hooks.logger.interval": 1}
DENSE = {
    "train_cfg.max_iters": 12,
    "train_cfg.val_interval": 6,
    "default_hooks.checkpoint.interval": 6,
    "default_hooks.logger.interval": 1,
    "val_dataloader.num_workers": 0,
    "param_scheduler": SHORT,
}
DROP = {"model.backbone.drop_path_rate": 0.2}
RUNS = {
    "mae": Run("mae/mae_vit-mini-p8_1xb64-40e_scenes", PRETRAIN | DROP),
    "dbot": Run(
        "dbot/dbot_vit-mini-p8_1xb64-2x20e_scenes", PRETRAIN | DROP, stages=("stage1", "stage2")
    ),
    "tinymim": Run(
        "tinymim/tinymim_vit-192-160-mini-p8_1xb64-3x3e_scenes",
        PRETRAIN | {"model.teacher.init": "random"},
        stages=("base", "small", "tiny"),
    ),
    "upernet": Run("scenes/upernet_vit-mini-p8_1xb8-600i_scenes-64x64", DENSE | DROP),
    "mask-rcnn": Run("scenes/mask-rcnn_vit-mini-p8_1xb8-600i_scenes-64x64", DENSE | DROP),
}


@dataclass(frozen=True)
class Trial:
    """A run and how it computes.

    Args:
        run: of `RUNS`.
        processes: gloo processes; each step is of four images in all.
        workers: loader workers per process.
        accumulation: steps whose gradients are added.
        bf16: autocast to bfloat16.
        fsdp: sharded over the processes, checkpoints as well.
    """

    run: str
    processes: int = 1
    workers: int = 0
    accumulation: int = 1
    bf16: bool = False
    fsdp: bool = False

    @property
    def name(self) -> str:
        """A folder's name."""
        precision = "bf16" if self.bf16 else "fp32"
        precision += "_fsdp" * self.fsdp
        return f"{self.run}_p{self.processes}_w{self.workers}_a{self.accumulation}_{precision}"


@dataclass(frozen=True)
class Interrupt:
    """A signal that a training sends itself.

    Args:
        stage: its folder; "" without stages.
        step: after which step, before a checkpoint of that step is saved.
        signal: SIGKILL to every process, another one to the last alone.
        group: whether loader processes get it as well.
    """

    stage: str
    step: int
    signal: signal.Signals
    group: bool = False


def make_data(folder: Path) -> Path:
    """Draw the images, once."""
    if not (folder / "labels.json").exists():
        size = ["--train", IMAGES, "--val", 8, "--test", 8, "--unlabelled", IMAGES, "--size", 64]
        with open(os.devnull, "w") as nothing, redirect_stdout(nothing):
            assert make_scenes([str(folder), *map(str, size), "--workers", "1"]) == 0
        (folder / "labels.json").write_text("{}")
    return folder


def import_all() -> None:
    """Import what trainings need, so that forked processes have it at once."""
    slots = ("heads", "losses", "masking", "normalizations", "students.vit", "teachers")
    for name in ("engine.stages", "engine.run", "recipes.configs", "algorithms", *slots):
        import_module(f"mimseg.{name}")
    for library in ("mmpretrain", "mmseg", "mmdet"):
        for part in ("models", "datasets", "evaluation", "engine", "visualization"):
            import_module(f"{library}.{part}")


def train_trial(*args: Any, **options: Any) -> list[int]:
    """Train in new processes to the end: exit codes by rank. Arguments: see `launch_trial`."""
    return launch_trial(*args, **options).wait()


def launch_trial(
    trial: Trial,
    data: Path,
    out: Path,
    resume: bool = False,
    interrupt: Interrupt | None = None,
    options: dict[str, Any] | None = None,
    before: Callable[[], None] | None = None,
    log: Path | None = None,
) -> Launch:
    """Start a training.

    Args:
        trial: what is trained and how.
        data: as `make_data` draws it.
        out: the work dir.
        resume: continue what is there.
        interrupt: a signal from within.
        options: settings.
        before: called first in each of its processes.
        log: takes the output; None for `out`.log.
    """

    def run() -> None:
        with report_unwritable("--work-dir", out):
            _train(trial, data, out, resume, options or {})

    def work() -> int:
        if before is not None:
            before()
        if interrupt is not None:
            _arm(interrupt, trial.processes)
        return exit_code(run, "interrupted")

    return fork(trial.processes, work, log or out.with_name(f"{out.name}.log"))


class Launch:
    """Processes of one training, in a process group of their own with their loader processes.

    Args:
        children: their numbers by rank; the first one's is the group's.
    """

    def __init__(self, children: list[int]) -> None:
        self.children, self.group = children, children[0]
        self.codes: list[int | None] = [None] * len(children)

    def send(self, number: signal.Signals, rank: int | None = None) -> None:
        """Send a signal to one process, or to the whole group."""
        if rank is None:
            os.killpg(self.group, number)
        elif self.codes[rank] is None:
            os.kill(self.children[rank], number)

    def running(self) -> list[int]:
        """The ranks that have not ended."""
        for rank, child in enumerate(self.children):
            if self.codes[rank] is None:
                ended, status = os.waitpid(child, os.WNOHANG)
                if ended:
                    self.codes[rank] = os.waitstatus_to_exitcode(status)
        return [rank for rank, code in enumerate(self.codes) if code is None]

    def left(self, seconds: float = 10) -> list[int]:
        """Processes of the group that are still there after that time: none, in a good end."""
        end = time.monotonic() + seconds
        while (numbers := _group(self.group)) and time.monotonic() < end:
            time.sleep(0.05)
        return numbers

    def wait(self, seconds: float = 600) -> list[int]:
        """Exit codes by rank; the whole group is killed where one has not ended by then."""
        end = time.monotonic() + seconds
        try:
            while self.running() and time.monotonic() < end:
                time.sleep(0.01)
        finally:
            if self.running():
                self.send(signal.SIGKILL)
                while self.running():
                    time.sleep(0.01)
        return list(self.codes)


def _group(group: int) -> list[int]:
    """The numbers of a process group's processes, without those that have ended."""
    numbers = []
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, number = entry.read_text().rpartition(")")[2].split()[:3]
        except OSError:
            continue
        if int(number) == group and state != "Z":
            numbers.append(int(entry.parent.name))
    return numbers


def fork(processes: int, work: Callable[[], int], log: Path) -> Launch:
    """Run a function in processes of one group of ranks."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    sys.stdout.flush()
    children: list[int] = []
    for rank in range(processes):
        child = os.fork()
        if child == 0:
            code = 1
            try:
                multiprocessing.process._children = set()  # the parent's, which are not joined here
                multiprocessing.util._finalizer_registry.clear()
                os.setpgid(0, children[0] if children else 0)
                ranks = dict(RANK=rank, LOCAL_RANK=rank, WORLD_SIZE=processes, MASTER_PORT=port)
                os.environ |= {key: str(value) for key, value in ranks.items()}
                os.environ["MASTER_ADDR"] = "127.0.0.1"
                torch.set_num_threads(1)
                file = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
                os.dup2(file, 1)
                os.dup2(file, 2)
                sys.stdout = sys.stderr = open(1, "w", buffering=1)  # pytest has others
                code = work()
                multiprocessing.util._exit_function()  # as an interpreter's end: joins loaders
            except BaseException:
                traceback.print_exc()
            finally:
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(code)
        children.append(child)
        os.setpgid(child, children[0])  # whichever of the two is first
    return Launch(children)


def _train(trial: Trial, data: Path, out: Path, resume: bool, options: dict[str, Any]) -> None:
    from mimseg.engine.prepare import merge_options, prepare_work_dir, use_amp
    from mimseg.engine.run import leave_group, train
    from mimseg.engine.stages import train_stages
    from mimseg.recipes.configs import config

    run = RUNS[trial.run]
    cfg = config(run.config)
    dense = "val_cfg" in cfg and cfg.val_cfg is not None
    merge_options(
        cfg,
        run.options
        | {
            "data_root": str(data if dense else data / "unlabelled"),
            "train_dataloader.batch_size": 4 // trial.processes,
            "train_dataloader.num_workers": trial.workers,
            "optim_wrapper.accumulative_counts": trial.accumulation,
            "auto_scale_lr.enable": False,
        }
        | options,
    )
    if cfg.model.get("teacher", {}).get("init") == "random":
        cfg.model.teacher.init = teacher_of(data, cfg)
    if trial.bf16:
        use_amp(cfg)
    if trial.fsdp:
        cfg.fsdp = dict(checkpoint="sharded")
    cfg.launcher = "pytorch" if trial.processes > 1 else "none"
    prepare_work_dir(cfg, str(out), run.config, resume)
    (train_stages if cfg.get("stages") else train)(cfg, resume)
    leave_group()


def teacher_of(data: Path, cfg: Any) -> str:
    """A checkpoint with random weights for a config's teacher."""
    from mimseg.registry import MODELS

    path = data / "teacher.pth"
    if not path.exists():
        torch.manual_seed(0)
        model = MODELS.build(cfg.model.teacher.backbone)
        model.init_weights()
        temporary = path.with_suffix(f".{os.getpid()}")
        torch.save({"state_dict": model.state_dict()}, temporary)
        temporary.rename(path)
    return str(path)


def _arm(interrupt: Interrupt, processes: int) -> None:
    """Send the signal from within the training, at the end of a step."""
    from mimseg.engine.checkpoint_hook import CheckpointHook

    after = CheckpointHook.after_train_iter

    def interrupted(hook: CheckpointHook, runner: Any, *args: Any, **kwargs: Any) -> None:
        place = Path(runner.work_dir).name if interrupt.stage else ""
        last = int(os.environ["RANK"]) == processes - 1
        if (place, runner.iter + 1) == (interrupt.stage, interrupt.step):
            if interrupt.signal is signal.SIGKILL or last:
                if interrupt.group:  # by another process: loaders obey this one
                    loaders = [str(child.pid) for child in multiprocessing.active_children()]
                    subprocess.run(["kill", f"-{int(interrupt.signal)}", *loaders], check=True)
                os.kill(os.getpid(), interrupt.signal)
        after(hook, runner, *args, **kwargs)

    CheckpointHook.after_train_iter = interrupted


def difference(first: Path, second: Path) -> str:
    """What differs between the last checkpoints, logs and metrics of two runs; "" if nothing."""
    paths = [find_resumable(folder) for folder in (first, second)]
    if None in paths:
        return "a run has no checkpoint"
    names = [Path(path).name for path in paths]
    if names[0] != names[1]:
        return f"last checkpoints {names}"
    one, two = (read_checkpoint(path) for path in paths)
    parts = {
        "weights": [c["state_dict"] for c in (one, two)],
        "optimizer": [c["optimizer"]["state"] for c in (one, two)],
        "groups": [c["optimizer"]["param_groups"] for c in (one, two)],
        "schedules": [c["param_schedulers"] for c in (one, two)],
        "logs": [_logs(c) for c in (one, two)],
        "metrics": [(read_json(f / "done.json") or {}).get("metrics") for f in (first, second)],
    }
    return ", ".join(name for name, (a, b) in parts.items() if not equal(a, b))


def equal(one: Any, two: Any) -> bool:
    """Whether two nests of values are the same, bit for bit."""
    if isinstance(one, torch.Tensor):
        return isinstance(two, torch.Tensor) and one.dtype == two.dtype and torch.equal(one, two)
    if isinstance(one, dict):
        return one.keys() == two.keys() and all(equal(one[key], two[key]) for key in one)
    if isinstance(one, (list, tuple)):
        return len(one) == len(two) and all(map(equal, one, two))
    return one == two


def _logs(checkpoint: dict) -> dict:
    logs = checkpoint["message_hub"]["log_scalars"]
    return {key: value for key, value in logs.items() if "time" not in key and "memory" not in key}
