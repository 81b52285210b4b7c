"""Reads and loads the weights of pretrained teachers: all of a network's, or none."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from mmengine.logging import print_log
from torch import Tensor, nn

from mimseg.checkpoints.files import UntrustedCheckpoint, first_tensors, read_checkpoint
from mimseg.checkpoints.match import compare
from mimseg.checkpoints.names import prefix_hits, shorten
from mimseg.checkpoints.report import LoadReport
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
    if state := first_tensors(checkpoint, _CONTAINERS):
        return state, file_digest(path)
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


def strip_prefix(state: dict[str, Tensor], model_names: Iterable[str]) -> dict[str, Tensor]:
    """The tensors behind the prefix that most of the network's names have in the file.

    All tensors, where no prefix has more than half of the names. Of a student's and a teacher's,
    the teacher's are taken.
    """
    model_names = set(model_names)
    hits = prefix_hits(state, model_names)
    prefix = max(hits, key=lambda p: (hits[p], "teacher" in p, -len(p)), default="")
    if 2 * hits[prefix] <= len(model_names):
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
    match = compare(net.state_dict(), state)
    fix = "name the model that the file was made with: teacher.model, teacher.model_kwargs"
    if match.missing:
        extra = f"; it also has {shorten(match.unexpected, 3)}" if match.unexpected else ""
        total = len(match.matched) + len(match.missing)
        expected = (
            f"all {total} tensors of {model}; {len(match.matched)} of them are there, not "
            f"{shorten(match.missing, 3)}{extra}"
        )
        raise UserError(KEY, source, expected=expected, fix=fix)
    if match.shapes:
        expected = f"tensors of {model}'s shapes; {match.shape_text()}"
        raise UserError(KEY, source, expected=expected, fix=fix)
    modules = {name.partition(".")[0] for name in match.matched}
    surplus = [
        name
        for name in match.unexpected
        if name.partition(".")[0] in modules and not name.startswith(tuple(drop))
    ]
    if surplus:
        expected = f"tensors that {model} can take; it has no {shorten(surplus, 3)}"
        raise UserError(KEY, source, expected=expected, fix=fix)
    match.require_finite(KEY, source, fix="")
    net.load_state_dict({name: state[name] for name in match.matched}, strict=False)
    report = LoadReport(f"teacher {model}", source, match, resized=tuple(resized))
    print_log(str(report), "current", logging.INFO)


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
