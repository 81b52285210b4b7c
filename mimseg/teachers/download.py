"""Downloads a teacher's weights once per machine, and asks beforehand whether it can."""

from __future__ import annotations

import socket
import ssl
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from http.client import HTTPException
from pathlib import Path
from urllib.parse import urlsplit

import torch
from huggingface_hub import constants
from torch import distributed

from mimseg.errors import UserError
from mimseg.teachers.weights import no_download

WAIT, STALL = 5.0, 30.0  # seconds
_LONGEST = timedelta(hours=6)
_WEIGHTS = (".safetensors", ".bin", ".pt", ".pth")


def require_download(weights: str, place: str) -> None:
    """See that a download is in a local cache, or that its server answers.

    Args:
        weights: the teacher's option, for the message.
        place: an address, or a repository on the Hugging Face hub.

    Raises:
        UserError: neither.
    """
    if not is_cached(place) and (reason := unreachable(place)):
        raise no_download(weights, place, ConnectionError(reason))


@contextmanager
def downloading(weights: str, place: str) -> Iterator[None]:
    """A block in which some library downloads, and gives up in seconds.

    Where the Hugging Face hub does not answer, its library takes what is cached; by itself it asks
    again and again, for a minute or several. Other downloads may be silent for `STALL` seconds.

    All processes of a distributed run come here together, whether or not they have the file. The
    first of each machine runs the block alone, and the others find in the cache what it fetched.

    Args:
        weights: the teacher's option, for the message.
        place: an address, or a repository on the Hugging Face hub.

    Raises:
        UserError: the block failed, in this process or in another.
    """
    with _first_of_machine(), _giving_up(weights, place):
        yield


@contextmanager
def _first_of_machine() -> Iterator[None]:
    if not (distributed.is_available() and distributed.is_initialized()):
        yield
        return
    # of its own: the others' wait is as long as the download, for which a group on GPUs times out
    group = distributed.new_group(backend="gloo", timeout=_LONGEST)
    try:
        names = _exchange(socket.gethostname(), group)
        first = names.index(socket.gethostname()) == distributed.get_rank()
        if not first:
            _agree(None, group)
        error = None
        try:
            yield
        except UserError as raised:
            error = raised
        for _ in range(1 + first):
            _agree(error, group)
    finally:
        distributed.destroy_process_group(group)


def _agree(error: UserError | None, group: distributed.ProcessGroup) -> None:
    """Raise in all processes what one of them raised, this one's own first."""
    errors = [e for e in [error, *_exchange(error, group)] if e is not None]
    if errors:
        raise errors[0]


def _exchange(value: object, group: distributed.ProcessGroup) -> list:
    values: list = [None] * distributed.get_world_size()
    distributed.all_gather_object(values, value, group)
    return values


@contextmanager
def _giving_up(weights: str, place: str) -> Iterator[None]:
    reason = None if "://" in place and is_cached(place) else unreachable(place)
    offline, timeout = constants.HF_HUB_OFFLINE, socket.getdefaulttimeout()
    constants.HF_HUB_OFFLINE = offline or ("://" not in place and reason is not None)
    socket.setdefaulttimeout(STALL)
    try:
        yield
    except Exception as error:
        cause = ConnectionError(f"{reason}; {error}") if reason else error
        raise no_download(weights, place, cause) from error
    finally:
        constants.HF_HUB_OFFLINE = offline
        socket.setdefaulttimeout(timeout)


def is_cached(place: str) -> bool:
    """Whether a local cache has weights of that address or repository."""
    if "://" in place:
        folders = (Path(torch.hub.get_dir()) / "checkpoints", Path("~/.cache/clip").expanduser())
        return any((folder / Path(urlsplit(place).path).name).is_file() for folder in folders)
    folder = Path(constants.HF_HUB_CACHE) / f"models--{place.strip('/').replace('/', '--')}"
    return any(path.suffix in _WEIGHTS for path in folder.glob("snapshots/*/**/*"))


def unreachable(place: str) -> str | None:
    """Why the server of an address or repository does not answer; None where it does."""
    if "://" not in place and constants.HF_HUB_OFFLINE:
        return "HF_HUB_OFFLINE is set"
    address = place if "://" in place else constants.ENDPOINT
    if any(proxy.startswith("socks") for proxy in urllib.request.getproxies().values()):
        return None  # which urllib cannot use; the download itself may
    reasons = [f"{urlsplit(address).netloc} does not answer within {WAIT:.0f} s"]
    asking = threading.Thread(target=_ask, args=(address, reasons), daemon=True)
    asking.start()
    asking.join(WAIT)  # a name server that is silent knows no timeout
    return reasons[-1]


def _ask(address: str, reasons: list[str | None]) -> None:
    try:
        request = urllib.request.Request(address, method="HEAD")
        urllib.request.urlopen(request, timeout=WAIT).close()
        reasons.append(None)
    except (ValueError, HTTPException, urllib.error.HTTPError):  # the download says it better
        reasons.append(None)
    except OSError as error:
        cause = getattr(error, "reason", error)
        if isinstance(cause, ssl.SSLError):  # it answers, and libraries differ in whom they trust
            reasons.append(None)
        elif not isinstance(cause, TimeoutError):
            reasons.append(f"{urlsplit(address).netloc}: {getattr(cause, 'strerror', cause)}")
