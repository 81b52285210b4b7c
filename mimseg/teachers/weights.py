"""Weights of pretrained teachers: read from a file without running code, loaded whole or not."""

from __future__ import annotations

import hashlib
import logging
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from mmengine.logging import print_log
from torch import Tensor, nn

from mimseg.checkpoints.files import UntrustedCheckpoint, first_tensors, read_checkpoint
from mimseg.checkpoints.prefix import prefix_hits
from mimseg.checkpoints.report import shorten
from mimseg.errors import UserError

KEY = "teacher.weights"
# a file of a self-supervised run may hold both networks: the averaged one is the teacher
_CONTAINERS = ("state_dict", "model", "teacher", "module", "student")
_POSITIONS = ("pos_embed", "positional_embedding", "relative_position")


def check_weights(weights: object, hub: str) -> str:
    """The `weights` option as a string; asking for nothing is an error, not a random network.

    Args:
        weights: what the config says.
        hub: the word for downloading in this teacher's config.
    """
    if not isinstance(weights, (str, Path)) or not str(weights):
        raise UserError(
            KEY,
            weights,
            expected=f"'random', {hub!r} or a weights file",
            fix="say where the weights come from",
        )
    return str(weights)


def require_file(path: str) -> None:
    """Raise UserError unless there is a file of that name."""
    if not Path(path).expanduser().is_file():
        raise UserError(
            KEY, path, expected="an existing weights file", fix="correct the path, or fetch it"
        )


def read_weights(path: str, trust: bool = False) -> tuple[dict[str, Tensor], str]:
    """The tensors in a file (its first container that has any) and the file's SHA-256.

    Raises:
        UserError: no such file, no tensors in it, or code in it without `trust`.
    """
    with report_untrusted():
        checkpoint = read_checkpoint(path, trust, key=KEY)
    if found := first_tensors(checkpoint, _CONTAINERS):
        return found, file_digest(path)
    raise UserError(
        KEY, path, expected=f"a file with weights; it holds {shorten(map(str, checkpoint))}"
    )


@contextmanager
def report_untrusted() -> Iterator[None]:
    """Within the block, name the teacher's own option in the error of a file with code in it."""
    try:
        yield
    except UntrustedCheckpoint as error:
        fix = "if you trust its origin, set teacher.trust=True"
        raise UntrustedCheckpoint(
            error.key, error.value, expected=error.expected, fix=fix
        ) from error


def file_digest(path: str) -> str:
    """SHA-256 of a file."""
    digest = hashlib.sha256()
    with Path(path).expanduser().open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def state_digest(state: Mapping[str, Tensor]) -> str:
    """SHA-256 of tensors, for weights whose file a library keeps to itself.

    Position tables are left out: they were resized, and rounding differs between machines.
    """
    digest = hashlib.sha256()
    for name in sorted(state):
        if not any(part in name for part in _POSITIONS):
            digest.update(name.encode())
            raw = state[name].detach().cpu().contiguous().flatten().view(torch.uint8)
            digest.update(raw.numpy().tobytes())
    return digest.hexdigest()


def strip_prefix(state: dict[str, Tensor], own: Iterable[str]) -> dict[str, Tensor]:
    """What lies under the prefix that most of the network's names have, if that is most of them.

    Where a student and a teacher lie side by side, the teacher's are taken.
    """
    own = set(own)
    hits = prefix_hits(state, own)
    prefix = max(hits, key=lambda p: (hits[p], "teacher" in p, -len(p)), default="")
    if 2 * hits[prefix] <= len(own):
        return state
    return {k[len(prefix) :]: v for k, v in state.items() if k.startswith(prefix)}


def load_exact(
    net: nn.Module,
    state: dict[str, Tensor],
    source: str,
    model: str,
    drop: Sequence[str] = (),
    resized: Sequence[str] = (),
) -> None:
    """Load a whole network, or raise and change nothing.

    Args:
        net: the network.
        state: tensors in the network's names. What belongs to modules that the network does not
            have is left out and reported.
        source: where the tensors came from.
        model: what messages call the network.
        drop: modules whose tensors are left out: the classifier's.
        resized: names of tensors that the caller resized to fit, for the report.

    Raises:
        UserError: a tensor is missing, has another shape or is not finite, or the file has tensors
            in one of the network's modules that the network cannot take.
    """
    own = net.state_dict()
    matched = [n for n in own if n in state]
    lacking = [n for n in own if n not in state and not n.endswith("num_batches_tracked")]
    fix = "name the model that the file was made with: teacher.model, teacher.model_kwargs"
    extra = [n for n in state if n not in own]
    if lacking:
        others = f"; beside them it has {shorten(extra, 3)}" if extra else ""
        raise UserError(
            KEY,
            source,
            expected=f"all {len(own)} tensors of {model}; {len(matched)} of them are there, not "
            f"{shorten(lacking, 3)}{others}",
            fix=fix,
        )
    shapes = [n for n in matched if own[n].shape != state[n].shape]
    if shapes:
        name = shapes[0]
        raise UserError(
            KEY,
            source,
            expected=f"tensors of {model}'s shapes; {name} is {tuple(state[name].shape)} there and "
            f"{tuple(own[name].shape)} in the model ({len(shapes)} differ)",
            fix=fix,
        )
    modules = {n.partition(".")[0] for n in own}
    surplus = [n for n in extra if n.partition(".")[0] in modules and not n.startswith(tuple(drop))]
    if surplus:
        raise UserError(
            KEY,
            source,
            expected=f"tensors that {model} can take; it has no {shorten(surplus, 3)}",
            fix=fix,
        )
    sick = [n for n in matched if not torch.isfinite(state[n]).all()]
    if sick:
        raise UserError(
            KEY, source, expected=f"finite weights; NaN or infinity in {shorten(sick, 3)}"
        )
    net.load_state_dict({n: state[n] for n in matched}, strict=False)
    left = Counter(n.partition(".")[0] for n in extra)
    notes = [f"teacher {model} loaded from {source}: {len(matched)} of {len(own)} tensors"]
    notes += [f"resized: {shorten(resized)}"] if resized else []
    notes += ["left out: " + ", ".join(f"{n} ({count})" for n, count in left.items())] * bool(left)
    print_log("; ".join(notes), "current", logging.INFO)


def no_download(weights: str, place: str, error: Exception) -> UserError:
    """The error of a download that failed."""
    text = str(error).strip()
    reason = text.splitlines()[0][:160] if text else type(error).__name__
    return UserError(
        KEY,
        weights,
        expected=f"a download of {place}, which failed ({type(error).__name__}: {reason})",
        fix="without a network, fetch the file elsewhere and set teacher.weights to its path "
        "(.safetensors, or .pth with tensors alone), or copy a Hugging Face cache that has it and "
        "set HF_HOME, or use weights='random'",
    )
