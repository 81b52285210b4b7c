"""A teacher's weights that cannot be had: known in seconds, before any data is read."""

import contextlib
import http.server
import socket
import threading
import time

import pytest
import torch
from huggingface_hub import constants

from mimseg.errors import UserError
from mimseg.registry import MODELS
from mimseg.teachers import download

TIMM = dict(type="mimseg.TimmTeacher", model="vit_tiny_patch16_224", weights="hub")
CLIP = dict(type="mimseg.OpenCLIPTeacher", model="ViT-B-32-quickgelu", weights="hub:openai")
DALLE = dict(type="mimseg.TokenizerTeacher", tokenizer=dict(type="mmpretrain.DALL-E"))


@pytest.fixture(autouse=True)
def empty_cache(tmp_path, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.setattr(download, "WAIT", 0.5)


@contextlib.contextmanager
def silent_server():
    """The address of a server that takes connections and says nothing."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen(16)
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


@contextlib.contextmanager
def refusing_server():
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{server.getsockname()[1]}"  # bound, and nobody listens


@contextlib.contextmanager
def answering_server():
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_HEAD(self):
            self.send_error(404)

        def log_message(self, *_):
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def build(cfg, address):
    with torch.device("meta"):
        return MODELS.build({"weights": f"{address}/vae.pkl", **cfg})


@pytest.mark.parametrize("cfg", [TIMM, CLIP, DALLE], ids=["timm", "open_clip", "address"])
@pytest.mark.parametrize("server", [silent_server, refusing_server])
def test_no_network_is_known_at_once(cfg, server, monkeypatch):
    with server() as address:
        monkeypatch.setattr(constants, "ENDPOINT", address)
        teacher, start = build(cfg, address), time.monotonic()
        with pytest.raises(UserError, match=r"teacher\.weights = .*127\.0\.0\.1") as caught:
            teacher.require_source()
        assert time.monotonic() - start < 2
    for way in ("teacher.weights to its path", "weights='random'", "HF_HOME"):
        assert way in caught.value.fix
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("cfg", [TIMM, CLIP], ids=["timm", "open_clip"])
def test_loading_does_not_ask_again_and_again(cfg, monkeypatch):
    with silent_server() as address:
        monkeypatch.setattr(constants, "ENDPOINT", address)
        teacher, start = build(cfg, address), time.monotonic()
        with pytest.raises(UserError, match=r"teacher\.weights.*does not answer"):
            teacher.load(None)
        assert time.monotonic() - start < 10
    assert constants.HF_HUB_OFFLINE is False and socket.getdefaulttimeout() is None


def test_a_server_that_answers_is_left_to_the_download(monkeypatch):
    with answering_server() as address:
        monkeypatch.setattr(constants, "ENDPOINT", address)
        for cfg in (TIMM, DALLE):
            build(cfg, address).require_source()


def test_what_is_cached_needs_no_network(tmp_path, monkeypatch):
    teachers = [build(TIMM, ""), build(CLIP, ""), build(DALLE, "http://127.0.0.1:1")]
    for repository in (
        "timm--vit_tiny_patch16_224.augreg_in21k_ft_in1k",
        "timm--vit_base_patch32_clip_224.openai",
    ):
        snapshot = tmp_path / f"hub/models--{repository}/snapshots/abc"
        snapshot.mkdir(parents=True)
        (snapshot / "model.safetensors").touch()
    (tmp_path / "torch/hub/checkpoints").mkdir(parents=True)
    (tmp_path / "torch/hub/checkpoints/vae.pkl").touch()
    with refusing_server() as address:
        monkeypatch.setattr(constants, "ENDPOINT", address)
        for teacher in teachers:
            teacher.require_source()


@pytest.mark.parametrize("cfg", [TIMM, CLIP, DALLE], ids=["timm", "open_clip", "tokenizer"])
def test_a_missing_file_is_known_before_loading(cfg, tmp_path):
    (tmp_path / "there.pth").touch()
    for weights in ("random", str(tmp_path / "there.pth")):
        build(cfg | dict(weights=weights), "").require_source()
    teacher = build(cfg | dict(weights=str(tmp_path / "gone.pth")), "")
    with pytest.raises(UserError, match=r"teacher\.weights.*gone\.pth.*existing"):
        teacher.require_source()
