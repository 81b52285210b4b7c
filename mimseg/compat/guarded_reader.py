"""Keep mmengine from running what a checkpoint file holds.

Reason: mmengine unpickles a file that torch's weights-only reader refuses, with a warning, and
executes the text of a config in a checkpoint: `Runner.resume` that of `meta.config`, to count GPUs,
and an inferencer that is given no config that of `meta.cfg`. All of OpenMMLab reads checkpoints by
one module: `load_from`, `resume`, `init_cfg=dict(type='Pretrained', ...)`, `init_model`,
`init_detector`, inferencers. It can go when mmengine reads weights only and executes no text.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from contextvars import ContextVar
from types import ModuleType

from mmengine.logging import print_log

from mimseg.checkpoints.files import (
    UntrustedCheckpoint,
    load_data,
    plain_objects,
    refusal,
    require_whole,
)
from mimseg.checkpoints.trusted import is_trusted
from mimseg.errors import UserError

_KEY = "checkpoint"
# how a config names the file that is being read, such as open-mmlab://NAME
_asked: ContextVar[str | None] = ContextVar("asked", default=None)


def guard_loader(checkpoint: ModuleType) -> None:
    """Let mmengine read tensors and plain values only, unless the user trusts the file by name.

    Args:
        checkpoint: the module mmengine.runner.checkpoint.
    """
    loader = checkpoint.CheckpointLoader
    load_checkpoint, load_url = loader.load_checkpoint.__func__, checkpoint.load_url

    @functools.wraps(load_checkpoint)
    def load_named(cls: type, filename: str, *args: object, **options: object) -> object:
        asked = _asked.set(filename)
        try:
            return load_checkpoint(cls, filename, *args, **options)
        finally:
            _asked.reset(asked)

    # what a caller says of weights_only does not count: it is not the user's word for this file
    def load_file(file: object, map_location: object = None, weights_only: object = None) -> object:
        name = file
        if hasattr(file, "read"):
            name = _asked.get() or getattr(file, "name", None)
        else:
            require_whole(file, _KEY)
        return _read(lambda trust: load_data(file, trust, map_location=map_location), name)

    def load_address(url: str, *args: object, **options: object) -> object:
        def load(trust: bool) -> object:
            with plain_objects(trust):
                return load_url(url, *args, **(options | {"weights_only": not trust}))

        return _read(load, url)

    loader.load_checkpoint = classmethod(load_named)
    checkpoint._safe_torch_load, checkpoint.load_url = load_file, load_address


def guard_inferencer(infer: ModuleType) -> None:
    """Refuse to take the config, which is code, from a checkpoint that is not trusted.

    Args:
        infer: the module mmengine.infer.infer.
    """
    inferencer = infer.BaseInferencer
    original = inferencer._init_model

    @functools.wraps(original)
    def init_model(self: object, cfg: object, weights: str | None, *args, **options) -> object:
        if not cfg and weights is not None and not is_trusted(weights):
            raise UntrustedCheckpoint(
                "weights",
                weights,
                expected="a config with it: the one in the file would be executed",
                fix=f"give the inferencer the config as well (model=CONFIG); {_trust(weights)}",
            )
        return original(self, cfg, weights, *args, **options)

    inferencer._init_model = init_model


def _read(load: Callable[[bool], object], name: object) -> object:
    """What `load(trust)` gives, without `meta.config` unless the file is trusted."""
    trust = is_trusted(*(str(n) for n in (name, _asked.get()) if n is not None))
    try:
        content = load(trust)
    except (MemoryError, OSError, UserError):  # OSError: no network
        raise
    except Exception as error:
        fix = _trust(name) if name else "save it to a file, which can be trusted by its name"
        raise refusal(_KEY, str(name or "a stream"), error, fix) from error
    meta = content.get("meta") if isinstance(content, dict) else None
    if not trust and isinstance(meta, dict) and meta.pop("config", None) is not None:
        print_log(f"meta.config of {name} is left out: mmengine would execute it", "current")
    return content


def _trust(name: object) -> str:
    return (
        f"if you trust its origin, call mimseg.trust({str(name)!r}) before it is loaded, or set "
        f"MIMSEG_TRUST={name} in the environment"
    )
