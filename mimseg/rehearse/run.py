"""Tries a config on its own data in a minute: checks, two steps, a validation, a test."""

from __future__ import annotations

import copy
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from mmengine.config import Config

from mimseg.checkpoints.loader import load_backbone
from mimseg.engine.finite import CODE as DIVERGED
from mimseg.engine.prepare import check_config, prepare_work_dir, use_amp, use_init
from mimseg.engine.run import test, train
from mimseg.engine.stages import stage_configs, train_stages
from mimseg.errors import EndOfRun, UserError
from mimseg.pipeline.scalars import last_entry, read_curve, scalar_files
from mimseg.registry import MODELS
from mimseg.rehearse.config import BATCH, rehearse
from mimseg.rehearse.full_size import check_backbone, check_parts, check_start, check_teachers

SPLITS = ("train", "val", "test")


def run_rehearsal(
    cfg: Config,
    config: str,
    work_dir: str | None = None,
    *,
    init: str | None = None,
    amp: bool = False,
    trust: bool = False,
) -> None:
    """Rehearse what a config describes and print what was verified.

    At full size: the data, as before every run; the networks, built without memory; the files that
    backbone, model and teachers start with. At small size, by `rehearse`: training, validation,
    the checkpoint and, where the config has one, a test.

    Args:
        cfg: a whole config.
        config: the file it came from.
        work_dir: where to write; None writes into a temporary folder.
        init, amp, trust: as of `mimseg train`.

    Raises:
        UserError: something would stop the run; the message says what.
    """
    begin = time.monotonic()
    with TemporaryDirectory(prefix="mimseg-rehearse-", ignore_cleanup_errors=True) as scratch:
        prepare_work_dir(cfg, work_dir or scratch, config, resume=False)
        if amp:
            use_amp(cfg)
        if init:
            use_init(cfg, init, trust)
        lines = [*_check(cfg, trust), *_run(cfg)]
    seconds = f"{time.monotonic() - begin:.0f} s"
    kept = f"all of it is in {work_dir}" if work_dir else "nothing was kept"
    lines.append("not rehearsed: memory and speed at full size, several processes")
    print(f"\nrehearsed {config} in {seconds}: no fault found")
    print("\n".join(f"  {line}" for line in lines))
    print(kept, flush=True)


def _check(cfg: Config, trust: bool) -> Iterator[str]:
    """Check data, networks and files at full size; yields what was verified."""
    stages = stage_configs(cfg) if cfg.get("stages") else {"": cfg}
    options = cfg.get("stages") or [{}]
    for (name, stage), option in zip(stages.items(), options, strict=True):
        before = f"{name}: " if name else ""
        splits = [split for split in SPLITS if stage.get(f"{split}_dataloader")]
        with _phase(f"{before}checking the data"):
            check_config(stage, tuple(splits))
        yield f"{before}data: {', '.join(splits)} checked"
        with _phase(f"{before}building the networks at full size"):
            yield before + check_parts(stage)
        key = option.get("teacher_key", "model.teacher") if option.get("teacher") else ""
        with _phase(f"{before}loading the weights that it starts with"):
            teachers = check_teachers(stage, key.rpartition(".")[2] or None)
            for line in (*teachers, check_backbone(stage), check_start(stage, trust)):
                if line:
                    yield before + line


def _run(cfg: Config) -> Iterator[str]:
    """Train, save, load back and test at small size; yields what was verified."""
    small = rehearse(cfg)
    work_dir = Path(cfg.work_dir)
    with _phase("training"):
        try:
            record = (train_stages if cfg.get("stages") else train)(copy.deepcopy(small))
        except EndOfRun as end:
            if end.code != DIVERGED:
                raise
            what = str(end).splitlines()[0]  # what to do next is about a work dir that is kept
            raise UserError("loss", what, expected="a finite loss in every step") from end
    batch = small.train_dataloader.batch_size
    for name, paths in scalar_files(work_dir).items():
        steps = int(last_entry(paths).get("iter", 0))
        losses = [value for _, value in read_curve(paths, "loss")]
        before = f"{name}: " if name else ""
        yield f"{before}training: {steps} steps of {batch} images, loss {losses[-1]:.4g}"
    if small.optim_wrapper.get("type") != cfg.optim_wrapper.get("type"):
        yield f"in float32: this machine does not run {cfg.optim_wrapper.get('type')}"
    if record["metrics"] is not None:
        yield f"validation: up to {BATCH} images, {_metrics(record['metrics'])}"
    with _phase("loading the checkpoint back"):
        last = list(stage_configs(small).values())[-1] if cfg.get("stages") else small
        load_backbone(MODELS.build(dict(last.model.backbone)), work_dir, key="checkpoint")
    yield f"checkpoint: {record['checkpoint']} written and loaded back"
    if small.get("test_dataloader") and small.get("test_evaluator"):
        with _phase("testing"):
            record = test(copy.deepcopy(small), str(work_dir))
        yield f"test: up to {BATCH} images, {_metrics(record['metrics'])}"


def _metrics(metrics: dict[str, float]) -> str:
    """The names of what was measured: two steps give no value that means anything."""
    names = ", ".join(list(metrics)[:3]) + (", ..." if len(metrics) > 3 else "")
    return f"{names} measured" if names else "nothing found in them to measure"


@contextmanager
def _phase(name: str) -> Iterator[None]:
    """Within the block, say on an error what was being done."""
    print(f"rehearsal: {name}", flush=True)
    try:
        yield
    except Exception:
        print(f"rehearsal failed: {name}", file=sys.stderr, flush=True)
        raise
