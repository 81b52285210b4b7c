"""From command line to a config that can run: settings, work dir, checks ahead of building."""

from __future__ import annotations

import difflib
import inspect
import os
import re
import tempfile
from collections.abc import Iterable
from pathlib import Path

from mmengine.config import Config
from mmengine.device import get_device
from mmengine.registry import HOOKS, METRICS, Registry
from mmengine.runner import Runner

from mimseg.engine.amp_optim_wrapper import require_bf16
from mimseg.engine.build_errors import near_name
from mimseg.engine.compile import check_compile
from mimseg.errors import UserError
from mimseg.registry import option_names

_LOGS = 1 << 20  # bytes: config, log and scalars of a short run
# Keys that a config need not have for a user to set them.
_KNOWN = {
    *inspect.signature(Runner.__init__).parameters,
    *("compile", "find_unused_parameters", "sync_bn", "activation_checkpointing"),
    *("model_wrapper_cfg", "fsdp"),
}


def merge_options(cfg: Config, options: dict, flag: str = "--cfg-options") -> None:
    """Merge dotted settings into a config.

    Args:
        cfg: is changed.
        options: by dotted keys, with numbers for places in lists.
        flag: names the settings in messages.

    Raises:
        UserError: a key whose first part nobody reads, which is nearly one that is there, or which
            leads through something that has no parts.
    """
    for key, value in options.items():
        _check_key(cfg.to_dict(), key, value, flag)
    if "data_root" in options:
        cfg.merge_from_dict(_moved(cfg.to_dict(), cfg.data_root, options["data_root"]))
    cfg.merge_from_dict(options)


def _check_key(cfg: dict, key: str, value: object, flag: str) -> None:
    """Raise UserError for a dotted key that is a typo; the type that reads it is asked later."""
    node, parts = cfg, key.split(".")
    for depth, part in enumerate(parts):
        where, last = ".".join(parts[:depth]), depth == len(parts) - 1
        if isinstance(node, list):
            if last or not part.isdigit() or int(part) >= len(node):
                expected = f"a part of one of the list's {len(node)} items, from {where}.0 on"
                raise UserError(flag, key, expected=expected, fix=f"or set all of {where}")
            node = node[int(part)]
        elif not isinstance(node, dict):
            expected = f"a key of a dict; {where} is {node!r}"
            raise UserError(flag, key, expected=expected, fix=f"write {where} in a config file")
        elif part in node:
            node = node[part]
        elif not depth and part not in _KNOWN:
            near = near_name(part, cfg)
            fix = f"did you mean {near}?" if near else "see the config for its keys"
            raise UserError(flag, key, expected="a key of the config", fix=fix)
        else:  # a new key, which a type may well take
            typo = None if last and "type" in node else _misspelled(part, node)
            if typo:
                whole = ".".join([*parts[:depth], typo, *parts[depth + 1 :]])
                expected = "a key of the config"
                raise UserError(flag, key, expected=expected, fix=f"did you mean {whole}?")
            return
    if isinstance(value, dict) and not isinstance(node, dict) and not value.get("_delete_"):
        expected = f"a plain value, as {node!r}; a dict takes its place with _delete_=True in it"
        raise UserError(flag, key, expected=expected)


def _misspelled(name: str, names: Iterable[str]) -> str | None:
    """The name that this one is nearly, other than by a number: teacher1 and teacher2 are two."""
    near = difflib.get_close_matches(name, [str(n) for n in names], 1, 0.8)
    if not near or re.sub(r"\d", "", name) == re.sub(r"\d", "", near[0]):
        return None
    return near[0]


def _moved(node: object, old: str, new: str, path: str = "") -> dict[str, str]:
    """Settings that replace the data root in every path below a config node.

    A config uses its `data_root` in several places; one setting has to move them all.
    """
    if isinstance(node, str) and (node == old or node.startswith(f"{old}/")):
        return {path: new + node[len(old) :]}
    moved = {}
    if isinstance(node, (dict, list, tuple)):
        for key, value in node.items() if isinstance(node, dict) else enumerate(node):
            moved |= _moved(value, old, new, f"{path}.{key}" if path else str(key))
    return moved


def prepare_work_dir(cfg: Config, asked: str | None, config: str, resume: bool) -> None:
    """Set `cfg.work_dir` and see that it can be written and holds no other run.

    Raises:
        UserError: not writable, or checkpoints of an earlier run and no --resume.
    """
    work_dir = Path(asked or cfg.get("work_dir") or Path("work_dirs") / Path(config).stem)
    try:
        work_dir.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=work_dir) as probe:
            probe.write(bytes(_LOGS))  # a full disk takes empty files
            probe.flush()
            os.fsync(probe.fileno())
    except OSError as error:
        raise UserError(
            "--work-dir",
            str(work_dir),
            expected=f"a folder that can be written ({error.strerror or error})",
            fix="free some space there, or name another folder",
        ) from error
    if not resume and next(work_dir.glob("**/*.pth"), None) is not None:
        raise UserError(
            "--work-dir",
            str(work_dir),
            expected="a folder without checkpoints of an earlier run",
            fix="--resume continues that run; or name another --work-dir",
        )
    cfg.work_dir = str(work_dir)


def use_amp(cfg: Config) -> None:
    """Select `mimseg.AmpOptimWrapper`, whatever plain wrapper the config has.

    Raises:
        UserError: a wrapper of another kind, or a device without bfloat16.
    """
    require_bf16(get_device())
    kind = cfg.optim_wrapper.get("type", "OptimWrapper")
    if kind not in ("OptimWrapper", "AmpOptimWrapper", "mimseg.AmpOptimWrapper"):
        raise UserError("optim_wrapper.type", kind, expected="'OptimWrapper' to put --amp on")
    for key in ("loss_scale", "dtype"):
        cfg.optim_wrapper.pop(key, None)
    cfg.optim_wrapper.type = "mimseg.AmpOptimWrapper"


def use_skip(cfg: Config, steps: int) -> None:
    """Let up to this many steps in a row be skipped where they are not finite.

    Raises:
        UserError: a wrapper of another kind than ours, which cannot skip.
    """
    kind = cfg.optim_wrapper.get("type", "OptimWrapper")
    if kind not in ("OptimWrapper", "mimseg.OptimWrapper", "mimseg.AmpOptimWrapper"):
        expected = "'OptimWrapper' or 'mimseg.AmpOptimWrapper' for --skip-nonfinite"
        raise UserError("optim_wrapper.type", kind, expected=expected)
    cfg.optim_wrapper.skip_nonfinite = steps


def use_init(cfg: Config, checkpoint: str, trust: bool = False) -> None:
    """Let the backbone start from a checkpoint; it is resolved and opened before training.

    Code in it is run where `trust` or the config's own `init_cfg.trust` is true.
    """
    from mimseg.checkpoints.files import read_checkpoint, resolve_checkpoint
    from mimseg.checkpoints.loader import weights_in
    from mimseg.checkpoints.recognise import has_own_names, recognise

    kind = cfg.model.backbone.get("type")
    if kind != "mimseg.ViT":
        raise UserError(
            "--init", checkpoint, expected=f"a config with a mimseg.ViT backbone, not {kind}"
        )
    path = str(resolve_checkpoint(checkpoint))
    trust = trust or (cfg.model.backbone.get("init_cfg") or {}).get("trust", False)
    weights = weights_in(read_checkpoint(path, trust, mmap=True, key="--init"), path, "--init")
    if not has_own_names(weights):
        recognise(weights, path, "--init")
    cfg.model.backbone.init_cfg = dict(type="Pretrained", checkpoint=path, trust=trust)


def use_tta(cfg: Config) -> None:
    """Test with `cfg.tta_pipeline`, which makes several views of an image, and `cfg.tta_model`.

    The model merges the views' predictions into one; `cfg.model` becomes a part of it.

    Raises:
        UserError: the config has none, or is one of detection.
    """
    if cfg.get("default_scope") == "mmdet":
        raise UserError(
            "--tta",
            cfg.filename,
            expected="a segmentation config: test-time augmentation is not offered for detection",
            fix="test without --tta",
        )
    for key, content in (("tta_pipeline", "a pipeline with TestTimeAug"), ("tta_model", "a model")):
        if not cfg.get(key):
            fix = "write it as configs/_base_/datasets/ade20k_512.py does, or test without --tta"
            raise UserError(key, None, expected=f"{content} for --tta", fix=fix)
    dataset = cfg.test_dataloader.dataset
    while "dataset" in dataset:  # RepeatDataset and its like
        dataset = dataset.dataset
    dataset.pipeline = cfg.tta_pipeline
    cfg.model = dict(cfg.tta_model, module=cfg.model)


def check_config(cfg: Config, splits: tuple[str, ...]) -> None:
    """What can be known to be wrong before anything is built.

    Args:
        splits: of "train", "val" and "test", those whose data will be read.

    Raises:
        UserError: an unknown `mimseg.` type, `compile` of anything but networks, a misspelled
            option of a hook or a metric, or bad data.
    """
    from mimseg.data.checks.classes import check_classes
    from mimseg.data.checks.config import check_config_data

    check_compile(cfg.get("compile"))
    check_types(cfg.to_dict())
    for key in ("default_hooks", "custom_hooks"):
        _check_loose_options(cfg, key, HOOKS)
    for split in splits:
        _check_loose_options(cfg, f"{split}_evaluator", METRICS)
    check_config_data(cfg, splits)
    check_classes(cfg, splits)


def _check_loose_options(cfg: Config, key: str, root: Registry) -> None:
    """Raise UserError for an option that is nearly one of a hook's or a metric's.

    Some drop what they do not know, or hand it on and fail when it is used: at the first save.
    """
    nodes = cfg.get(key) or {}
    if isinstance(nodes, dict):
        nodes = {key: nodes} if "type" in nodes else {f"{key}.{n}": v for n, v in nodes.items()}
    else:
        nodes = {f"{key}.{place}": node for place, node in enumerate(nodes)}
    with root.switch_scope_and_registry(cfg.get("default_scope")) as registry:
        for path, node in nodes.items():
            name = node.get("type") if isinstance(node, dict) else None
            kind = registry.get(name) if isinstance(name, str) else None
            names = option_names(kind) if kind else []
            for option in [o for o in node if kind and o not in names and o != "type"]:
                if near := near_name(option, names):
                    fix = f"did you mean {near}?"
                    expected = f"an option of {name}"
                    raise UserError(f"{path}.{option}", node[option], expected=expected, fix=fix)


def check_types(node: object, path: str = "") -> None:
    """Raise UserError for a `mimseg.` type that no registry has, below a config node."""
    if isinstance(node, dict):
        for key, value in node.items():
            here = f"{path}.{key}" if path else str(key)
            if key == "type" and isinstance(value, str) and value.startswith("mimseg."):
                _check_type(here, value)
            check_types(value, here)
    elif isinstance(node, (list, tuple)):
        for index, value in enumerate(node):
            check_types(value, f"{path}[{index}]")


def _check_type(key: str, value: str) -> None:
    from mimseg import registry

    tables = [r for r in vars(registry).values() if isinstance(r, registry.LazyRegistry)]
    names = sorted({name for table in tables for name in (*table.index, *table.module_dict)})
    name = value.removeprefix("mimseg.")
    if name not in names:
        near = near_name(name, names)
        raise UserError(
            key,
            value,
            expected="a name that mimseg registers",
            fix=f"did you mean mimseg.{near}?" if near else "one of " + ", ".join(names),
        )


def view_sizes(cfg: Config) -> dict[str, tuple[int, int]]:
    """View -> (H, W) that the training pipeline's mimseg.MIMViews makes; empty without one."""
    pipeline = cfg.train_dataloader.dataset.get("pipeline", [])
    for step in pipeline:
        if step.get("type") == "mimseg.MIMViews":
            views = {name: step.get(name) for name in ("student", "teacher")}
            return {name: (view["size"],) * 2 for name, view in views.items() if view}
    return {}
