"""Training in stages: each a Runner run of its own, with what it takes from an earlier one."""

from __future__ import annotations

import copy
import time
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.dist import is_main_process
from mmengine.registry import MODELS, DefaultScope
from torch import nn

from mimseg.checkpoints.files import checkpoint_folder, numbered
from mimseg.engine.build_errors import report_build_errors
from mimseg.engine.checkpoint_hook import DONE, remove_leftovers
from mimseg.engine.closing import free_memory
from mimseg.engine.console import say
from mimseg.engine.prepare import check_config, merge_options, view_sizes
from mimseg.engine.run import join_group, train
from mimseg.errors import UserError
from mimseg.files import read_json, write_json, write_text

KEYS = {"name", "options", "teacher", "teacher_key", "teacher_options", "optimizer"}


def train_stages(cfg: Config, resume: bool = False, trust: bool = False) -> dict:
    """Run `cfg.stages` one after another, each in its own folder of `cfg.work_dir`.

    A stage is a dict with these keys:

    - name: its folder;
    - options: dotted settings that replace the config's;
    - teacher: the earlier stage whose student becomes the teacher (dBOT, TinyMIM's chain);
    - teacher_key: which teacher that is ("model.teacher");
    - teacher_options: its options, such as view, input_size, final_norm, or another type
      (mimseg.EMATeacher, which starts from that student and then follows the new one);
    - optimizer: the earlier stage whose optimizer moments are kept (dBOT's official code).

    The student is drawn anew and the schedule restarts, because the Runner is new; each stage adds
    its number to the seed, or its student would start as the first one did.

    Returns:
        The last stage's record; its checkpoint is named in `work_dir/last_checkpoint`.
    """
    join_group(cfg)
    work_dir = Path(cfg.work_dir)
    stages = stage_configs(cfg)
    for stage in stages.values():  # before the first one trains for days
        check_config(stage, ("train", "val"))
        check_model(stage)
    if resume:
        _check_finished(stages)
    if is_main_process():
        remove_leftovers(work_dir)
    for number, (name, stage) in enumerate(stages.items()):
        say(f"stage {number + 1} of {len(stages)}: {name}")
        Path(stage.work_dir).mkdir(parents=True, exist_ok=True)
        record = train(stage, resume, trust)
        free_memory()  # the next stage's model would stand beside this one's
    record = {**record, "checkpoint": f"{name}/{record['checkpoint']}"}
    if is_main_process():
        write_text(work_dir / "last_checkpoint", record["checkpoint"])
        write_json(work_dir / DONE, record)
    return record


def _check_finished(stages: dict[str, Config]) -> None:
    """Raise UserError where a finished stage gets another length and a later one has begun."""
    names = list(stages)
    for number, (name, stage) in enumerate(stages.items()):
        record, length = read_json(Path(stage.work_dir) / DONE), stage.train_cfg.to_dict()
        if not isinstance(record, dict) or record.get("schedule", length) == length:
            continue
        begun = [n for n in names[number + 1 :] if numbered(checkpoint_folder(stages[n]))]
        if begun:
            raise UserError(
                f"stages[{number}]: train_cfg",
                length,
                expected=f"{record['schedule']}, with which {name} was finished: {begun[0]} has "
                "begun from it",
                fix="keep it, or start again in another --work-dir",
            )


def stage_configs(cfg: Config) -> dict[str, Config]:
    """One full config a stage, by name.

    Raises:
        UserError: an unknown key, a name used twice, an earlier stage that is not one, or a stage
            without epochs.
    """
    configs: dict[str, Config] = {}
    for number, stage in enumerate(cfg.stages):
        where = f"stages[{number}]"
        if unknown := set(stage) - KEYS:
            raise UserError(where, sorted(unknown), expected=f"keys among {sorted(KEYS)}")
        name = stage.get("name", f"stage{number}")
        if name in configs:
            raise UserError(f"{where}.name", name, expected="a name of its own")
        config = copy.deepcopy(cfg)
        config.pop("stages")
        merge_options(config, copy.deepcopy(dict(stage.get("options", {}))), f"{where}.options")
        config.work_dir = str(Path(cfg.work_dir) / name)
        for key in ("max_epochs", "max_iters"):
            length = config.train_cfg.get(key)
            if length is not None and (not isinstance(length, int) or length < 1):
                raise UserError(
                    f"{where}: train_cfg.{key}",
                    length,
                    expected="a whole number from 1",
                    fix=f"the stage's options={{'train_cfg.{key}': N}}, or leave the stage out",
                )
        if config.get("randomness") and config.randomness.get("seed") is not None:
            config.randomness.seed += number
        for key in ("teacher", "optimizer"):
            if stage.get(key) is not None and stage[key] not in configs:
                raise UserError(f"{where}.{key}", stage[key], expected=f"one of {list(configs)}")
        if stage.get("teacher") is not None:
            earlier = configs[stage.teacher]
            key = stage.get("teacher_key", "model.teacher")
            _set_teacher(config, key, earlier, stage.get("teacher_options", {}))
        if stage.get("optimizer") is not None:
            source = str(checkpoint_folder(configs[stage.optimizer]))
            hook = dict(type="mimseg.OptimizerHandoverHook", source=source)
            config.custom_hooks = [*config.get("custom_hooks", []), hook]
        configs[name] = config
    return configs


def check_models(cfg: Config) -> None:
    """Check a training's model, or each stage's. See `check_model`."""
    for stage in stage_configs(cfg).values() if cfg.get("stages") else [cfg]:
        check_model(stage)


def check_model(cfg: Config) -> nn.Module:
    """Build a model without memory: what cannot fit is reported before anything trains.

    Returns:
        The model, on the meta device.

    Raises:
        UserError: an option that cannot be, or views and teachers that do not meet on one grid.
    """
    model = build_on_meta(cfg)
    if (bank := getattr(model, "bank", None)) is not None:
        bank.require_sources()
    if hasattr(model, "check_views") and (sizes := view_sizes(cfg)):
        model.check_views(sizes)
    return model


def build_on_meta(cfg: Config) -> nn.Module:
    """A config's model on the meta device: shapes without memory, and no file is looked for.

    Raises:
        UserError: an option that cannot be.
    """
    DefaultScope.get_instance(f"check {time.monotonic_ns()}", scope_name=cfg.default_scope)
    with torch.device("meta"), MODELS.switch_scope_and_registry(cfg.default_scope) as registry:
        with report_build_errors(cfg):
            return registry.build(copy.deepcopy(cfg.model))


def _set_teacher(cfg: Config, key: str, earlier: Config, options: dict) -> None:
    backbone = {k: v for k, v in earlier.model.backbone.items() if k != "init_cfg"}
    *parents, last = key.split(".")
    node = cfg
    for part in parents:
        node = node[part]
    before = node[last] if node[last].get("type") == "mimseg.ViTTeacher" else {}
    node[last] = {
        **{name: value for name, value in before.items() if name not in ("depth", "backbone")},
        **dict(type="mimseg.ViTTeacher", init=str(checkpoint_folder(earlier))),
        **dict(backbone=backbone, saved=True),
        **options,
    }
    if node[last]["type"] == "mimseg.EMATeacher":  # of the new student's shape, always saved
        del node[last]["backbone"], node[last]["saved"]
