"""Repeats the step at which a run diverged, and says where it began."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config, ConfigDict
from mmengine.device import get_device
from mmengine.logging import MMLogger
from mmengine.registry import MODELS, DefaultScope
from torch import nn

from mimseg.checkpoints.files import read_checkpoint
from mimseg.checkpoints.written_config import written_config
from mimseg.data.order import PlacedDataset, place_batch
from mimseg.engine.amp_optim_wrapper import AmpOptimWrapper, bf16_supported
from mimseg.engine.build_errors import report_build_errors
from mimseg.engine.console import hush
from mimseg.engine.finite import DIVERGED, image_of, number
from mimseg.engine.optim_wrapper import OptimWrapper
from mimseg.engine.prepare import merge_options
from mimseg.engine.runner import Runner
from mimseg.engine.stages import stage_configs
from mimseg.engine.trace import Origin, Trace
from mimseg.errors import UserError, require_choice
from mimseg.masking.base import Masking
from mimseg.randomness import seed_all
from mimseg.recipes.configs import config as read_config

PRECISIONS = {"float32": OptimWrapper, "bfloat16": AmpOptimWrapper}
_SCOPES = ("mmpretrain", "mmseg", "mmdet")
_SHOWN = 16  # images that are listed


@dataclass(frozen=True)
class Replay:
    """What a repeated step gave.

    Args:
        record: of the run, as `mimseg.engine.finite` wrote it.
        rank: whose part of the batch this is of.
        precision: that it was computed in.
        losses: of each of the step's iterations, by name.
        norm: of the gradient.
        largest: the name of the parameter with the largest finite gradient, and that value.
        diverged: whether the step is not finite this time either.
        origin: where the first value that is not finite appeared; None where every one is finite,
            and at most the norm is too large for its type.
    """

    record: dict
    rank: int
    precision: str
    losses: list[dict[str, float]]
    norm: float
    largest: tuple[str, float]
    diverged: bool
    origin: Origin | None

    def lines(self) -> list[str]:
        """The report for the console."""
        record, batch = self.record, self.record["ranks"][self.rank]
        step = (
            f"{record['iterations'][-1] + 1} of {record['max_iters']}, epoch {record['epoch'] + 1}"
        )
        rows = [("step", step)]
        if len(record["ranks"]) > 1:
            rows.append(("rank", f"{self.rank} of {len(record['ranks'])}"))
        changed = "" if self.precision == record["precision"] else f", was {record['precision']}"
        rows.append(("precision", self.precision + changed))
        for now, then in zip(self.losses, batch["losses"], strict=True):
            values = (f"{key} {value:.6g}" for key, value in now.items())
            before = (f"{key} {value:.6g}" for key, value in then.items())
            rows.append(("losses", f"{', '.join(values)}  (in the run: {', '.join(before)})"))
        rows.append(("gradient", f"norm {self.norm:.6g}  (in the run: {record['norm']:.6g})"))
        images = [image for part in batch["samples"] for image in part["images"]]
        bad = self._bad_images(len(images))
        first = sorted(range(len(images)), key=lambda index: index not in bad)
        images = [images[i] + ("  <- not finite" if i in bad else "") for i in first]
        rows += [("images" if not i else "", image) for i, image in enumerate(images[:_SHOWN])]
        if len(images) > _SHOWN:
            rows.append(("", f"and {len(images) - _SHOWN} more"))
        if not self.diverged:
            rows.append(("result", "not reproduced: losses and gradient are finite here"))
        elif self.origin is not None:
            rows.append(("first", self.origin.text()))
        else:
            name, value = self.largest
            what = f"every value is finite; the gradient of {name} reaches {value:.3g}"
            rows.append(("first", f"the norm of the gradient, too large for float32: {what}"))
        return [f"{key:<15}{text}" for key, text in rows]

    def _bad_images(self, count: int) -> set[int]:
        """Those whose values alone are not finite, where the tensor has rows for each image."""
        if self.origin is None or len(self.losses) > 1 or not self.origin.shape:
            return set()
        masks, rest = divmod(self.origin.shape[0], count)
        bad = set() if rest or not masks else {row // masks for row in self.origin.rows}
        return bad if len(bad) < count else set()


def replay(
    work_dir: str | Path,
    config: str | None = None,
    options: dict | None = None,
    precision: str | None = None,
    trust: bool = False,
) -> Replay:
    """Repeat the step that `work_dir/diverged.pth` was written for, in one process.

    Model, samples, augmentation, masks and other random draws are those of the run. Of a run of
    several processes each one's part is computed alone, those with a bad loss first, until a value
    is not finite; statistics over all processes' images then differ.

    Args:
        work_dir: of the run, or of one of its stages.
        config: the run's; None takes the one in the file, which is read as data: types that no
            registry knows and pickled annotations are refused.
        options: dotted settings that replace the config's.
        precision: of `PRECISIONS`; None for that of the run.
        trust: run code in the files that the config names.

    Raises:
        UserError: there is nothing to repeat, or the data have changed.
    """
    path = _find(Path(work_dir))
    checkpoint = read_checkpoint(path, trust, key="WORK_DIR")
    record = (checkpoint.get("meta") or {}).get("diverged")
    if not isinstance(record, dict):
        raise UserError("WORK_DIR", str(path), expected="a file that a diverged run wrote")
    precision = _precision(precision or record["precision"])
    cfg = _written(checkpoint, path, trust) if config is None else _named(config, path)
    merge_options(cfg, options or {})
    with _registered_types() if config is None else nullcontext(), report_build_errors(cfg):
        model = _build_model(cfg).to(get_device())
        loader = Runner.build_dataloader({**cfg.train_dataloader, "num_workers": 0})
    weights = _weights(checkpoint)
    count = len(record["ranks"])
    suspects = sorted(range(count), key=lambda rank: rank not in record["bad_ranks"])
    for rank in suspects:
        _load(model, weights, path)
        batches = _batches(loader, record, rank)
        result = _step(model, batches, record, rank, precision)
        if result.diverged:
            break
    return result


def _find(work_dir: Path) -> Path:
    path = work_dir / DIVERGED
    if path.is_file():
        return path
    stages = sorted(each.parent.name for each in work_dir.glob(f"*/{DIVERGED}"))
    raise UserError(
        "WORK_DIR",
        str(work_dir),
        expected=f"the folder of a run that diverged, with {DIVERGED}",
        fix=f"name its stage: {', '.join(str(work_dir / s) for s in stages)}" if stages else "",
    )


def _precision(name: str) -> str:
    require_choice("--precision", name, PRECISIONS)
    device = torch.device(get_device()).type
    if name == "bfloat16" and not bf16_supported(device):
        expected = f"float32: this {device} has no bfloat16 arithmetic, which the run used"
        fix = "--precision float32, or a device like the run's"
        raise UserError("--precision", name, expected=expected, fix=fix)
    return name


def _written(checkpoint: dict, path: Path, trust: bool) -> Config:
    """The config in the file, as data."""
    values = written_config(checkpoint)
    scope = values.get("default_scope")
    if not {"model", "train_dataloader"} <= set(values) or scope not in _SCOPES:
        expected = "a config of plain values in the file"
        raise UserError("WORK_DIR", str(path), expected=expected, fix="name it: --config CONFIG")
    return Config(values if trust else _without_code(values))


def _named(name: str, path: Path) -> Config:
    """A config that the user names, or the stage of it that the file is of."""
    cfg = read_config(name)
    stages = stage_configs(cfg) if cfg.get("stages") else {}
    return stages.get(path.parent.name, cfg)


def _without_code(node: Any) -> Any:
    """A config's node without leave to run code, and with no pickled files."""
    if isinstance(node, dict):
        return {key: _without_code(value) for key, value in node.items() if key != "trust"}
    if isinstance(node, (list, tuple)):
        return type(node)(_without_code(value) for value in node)
    if isinstance(node, str) and node.endswith((".pkl", ".pickle")):
        expected = "no pickled file in a config that is read as data"
        raise UserError("train_dataloader", node, expected=expected, fix="--config CONFIG")
    return node


@contextmanager
def _registered_types() -> Iterator[None]:
    """Within the block, types come from registries alone; mmengine would import any other name."""
    module, name = sys.modules["mmengine.registry.registry"], "get_object_from_string"
    imports = getattr(module, name)
    setattr(module, name, lambda _: None)
    try:
        yield
    finally:
        setattr(module, name, imports)


def _build_model(cfg: Config) -> nn.Module:
    """The model with its teachers' weights; its own are still to be loaded."""
    DefaultScope.get_instance(f"replay {time.monotonic_ns()}", scope_name=cfg.default_scope)
    hush(MMLogger.get_current_instance())
    options = ConfigDict(cfg.model.to_dict())
    options.get("backbone", {}).pop("init_cfg", None)
    with MODELS.switch_scope_and_registry(cfg.default_scope) as registry:
        model = registry.build(options)
        model.init_weights()
    return model


def _weights(checkpoint: dict) -> dict[str, Any]:
    """The trained weights; an EMA hook of mmengine's puts its average in their place."""
    averaged = checkpoint.get("ema_state_dict") or {}
    swapped = {k.removeprefix("module."): v for k, v in averaged.items() if k.startswith("module.")}
    return {**checkpoint["state_dict"], **swapped}


def _load(model: nn.Module, weights: dict[str, Any], path: Path) -> None:
    """All of them, finite or not."""
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        raise UserError(
            "--config",
            str(path),
            expected="the config that the run had; its tensors do not fit this model",
            fix=str(error).splitlines()[-1].strip(),
        ) from error


def _batches(loader: Any, record: dict, rank: int) -> list[Any]:
    """The batches of a rank, read and augmented as in the run."""
    samples, processes = record["ranks"][rank]["samples"], len(record["ranks"])
    if samples is None:
        expected = "a run whose samples have indices (no stream, no data loader of another kind)"
        raise UserError("WORK_DIR", "no samples", expected=expected)
    dataset = PlacedDataset(loader.dataset)
    batches = []
    for iteration, batch in zip(record["iterations"], samples, strict=True):
        for index, image in zip(batch["indices"], batch["images"], strict=True):
            there = image_of(dataset, index) if index < len(dataset) else None
            if there is None or Path(there).name != Path(image).name:
                raise UserError(
                    "train_dataloader.dataset",
                    there,
                    expected=f"the data of the run: sample {index} was {image}",
                    fix="put the data back as they were",
                )
        placed = place_batch(batch["indices"], record["seed"], iteration, rank, processes)
        batches.append(loader.collate_fn([dataset[sample] for sample in placed]))
    return batches


def _step(model: nn.Module, batches: list[Any], record: dict, rank: int, precision: str) -> Replay:
    processes = len(record["ranks"])
    for module in model.modules():
        if isinstance(module, Masking):
            module.draws_for = (rank, processes)
    parameters = [p for p in model.parameters() if p.requires_grad]
    # the step itself changes nothing at a rate of 0
    wrapper = PRECISIONS[precision](
        torch.optim.SGD(parameters, lr=0.0), accumulative_counts=len(batches)
    )
    model.train()
    wrapper.zero_grad()
    losses = []
    trace = Trace(model)
    with trace.watch():
        for iteration, batch in zip(record["iterations"], batches, strict=True):
            seed_all(record["seed"], record["ranks"][rank]["seed"], iteration)
            outputs = model.train_step(batch, wrapper)
            losses.append({k: number(v) for k, v in outputs.items() if "loss" in k})
    (verdict,) = wrapper.judge.verdicts(wait=True)
    return Replay(
        record=record,
        rank=rank,
        precision=precision,
        losses=losses,
        norm=verdict.norm,
        largest=trace.largest,
        diverged=verdict.over,
        origin=trace.origin,
    )
