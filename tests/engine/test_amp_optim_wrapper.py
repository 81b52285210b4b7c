"""bfloat16 autocast: what is cast, what stays float32, and the refusal where there is none."""

import copy

import pytest
import torch
import torch.nn.functional as F
from mmengine.config import Config
from mmengine.optim import OptimWrapper
from mmengine.registry import OPTIM_WRAPPERS
from torch import nn

from mimseg.engine import amp_optim_wrapper
from mimseg.engine.amp_optim_wrapper import AmpOptimWrapper
from mimseg.engine.prepare import use_amp
from mimseg.errors import UserError


@pytest.fixture(autouse=True)
def any_cpu(monkeypatch):
    """Autocast computes in bfloat16 on every CPU, only slowly: the tests run on all of them."""
    monkeypatch.setattr(amp_optim_wrapper, "bf16_supported", lambda device_type: True)


@pytest.fixture
def net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(16, 32), nn.GELU(), nn.Linear(32, 4))


DATA = torch.Generator().manual_seed(1)
X, Y = torch.randn(64, 16, generator=DATA), torch.randn(64, 4, generator=DATA)


def wrap(net, **kwargs):
    return AmpOptimWrapper(torch.optim.SGD(net.parameters(), lr=0.1), **kwargs)


def test_casts_inside_the_context_and_nowhere_else(net):
    wrapper = wrap(net)
    with wrapper.optim_context(net):
        out = net(X)
        loss = F.mse_loss(out, Y)
    assert out.dtype == torch.bfloat16 and loss.dtype == torch.float32
    wrapper.backward(loss)
    assert all(p.dtype == p.grad.dtype == torch.float32 for p in net.parameters())
    assert net(X).dtype == torch.float32
    assert "loss_scaler" not in wrapper.state_dict()


def test_a_bfloat16_loss_is_scaled_in_float32(net):
    wrapper = wrap(net, accumulative_counts=3)
    scaled = wrapper.scale_loss(torch.tensor(1.0, dtype=torch.bfloat16))
    assert scaled.dtype == torch.float32 and scaled.item() == pytest.approx(1 / 3, rel=1e-6)


def test_training_follows_float32(net):
    twin = copy.deepcopy(net)
    wrapper, plain = wrap(net), torch.optim.SGD(twin.parameters(), lr=0.1)
    for _ in range(20):
        with wrapper.optim_context(net):
            loss = F.mse_loss(net(X), Y)
        wrapper.update_params(loss)
        expected = F.mse_loss(twin(X), Y)
        plain.zero_grad()
        expected.backward()
        plain.step()
    assert loss.item() == pytest.approx(expected.item(), rel=1e-2) and loss.item() < 1.0
    for ours, theirs in zip(net.parameters(), twin.parameters(), strict=True):
        assert (ours - theirs).abs().max() < 5e-3
    assert any((a != b).any() for a, b in zip(net.parameters(), twin.parameters(), strict=True))


def test_accumulation_and_clipping(net):
    twin = copy.deepcopy(net)
    wrapper = wrap(net, accumulative_counts=2, clip_grad={"max_norm": 0.01})
    start = copy.deepcopy(net.state_dict())
    for half in (slice(0, 32), slice(32, 64)):
        assert all(torch.equal(v, start[k]) for k, v in net.state_dict().items())
        with wrapper.optim_context(net):
            loss = F.mse_loss(net(X[half]), Y[half])
        wrapper.update_params(loss)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        F.mse_loss(twin(X), Y).backward()
    nn.utils.clip_grad_norm_(twin.parameters(), 0.01)
    for (name, ours), theirs in zip(net.named_parameters(), twin.parameters(), strict=True):
        moved, expected = ours - start[name], -0.1 * theirs.grad
        assert (moved - expected).norm() < 0.03 * expected.norm() + 1e-7


def test_refuses_a_device_without_bfloat16(net, monkeypatch):
    monkeypatch.setattr(amp_optim_wrapper, "bf16_supported", lambda device_type: False)
    with pytest.raises(UserError, match="this cpu has none.*drop --amp"):
        wrap(net)


def test_a_config_falls_back_to_float32_and_says_so(monkeypatch):
    cfg = Config({"optim_wrapper": {"type": "mimseg.AmpOptimWrapper", "dtype": "bfloat16"}})
    assert amp_optim_wrapper.fall_back(cfg) is None
    assert cfg.optim_wrapper.type == "mimseg.AmpOptimWrapper"
    monkeypatch.setattr(amp_optim_wrapper, "bf16_supported", lambda device_type: False)
    assert "no bfloat16" in amp_optim_wrapper.fall_back(cfg)
    assert cfg.optim_wrapper.to_dict() == {"type": "OptimWrapper"}
    assert amp_optim_wrapper.fall_back(cfg) is None  # nothing left to change


def test_asking_for_amp_is_refused_where_there_is_none(monkeypatch):
    cfg = Config({"optim_wrapper": {"type": "OptimWrapper"}})
    monkeypatch.setattr(amp_optim_wrapper, "bf16_supported", lambda device_type: False)
    with pytest.raises(UserError, match="has none.*drop --amp"):
        use_amp(cfg)
    assert cfg.optim_wrapper.type == "OptimWrapper"


@pytest.mark.parametrize("amp_first", [True, False])
def test_a_checkpoint_resumes_in_the_other_precision(net, amp_first):
    kinds = (AmpOptimWrapper, OptimWrapper) if amp_first else (OptimWrapper, AmpOptimWrapper)
    first, second = (kind(torch.optim.AdamW(net.parameters(), lr=0.1)) for kind in kinds)
    with first.optim_context(net):
        loss = F.mse_loss(net(X), Y)
    first.update_params(loss)
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    moments = [w.optimizer.state[net[0].weight]["exp_avg"] for w in (first, second)]
    assert torch.equal(*moments)
    with second.optim_context(net):
        loss = F.mse_loss(net(X), Y)
    second.update_params(loss)
    assert second.optimizer.state[net[0].weight]["step"] == 2


def test_refuses_float16(net):
    with pytest.raises(UserError, match="float16.*expected 'bfloat16'"):
        wrap(net, dtype="float16")
    wrap(net, dtype=torch.bfloat16)


@pytest.mark.parametrize(
    "able, expected",
    [({"amx_bf16": True}, True), ({"avx512_bf16": True}, True), ({"avx512_f": True}, False)],
)
def test_detects_the_cpu(monkeypatch, able, expected):
    monkeypatch.undo()  # the real detector
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: able)
    assert amp_optim_wrapper.bf16_supported("cpu") is expected
    assert not amp_optim_wrapper.bf16_supported("no_such_device")


def test_is_found_by_name_from_any_scope():
    assert OPTIM_WRAPPERS.get("mimseg.AmpOptimWrapper") is AmpOptimWrapper


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_on_a_gpu(net):
    net.cuda()
    wrapper = wrap(net)
    with wrapper.optim_context(net):
        out = net(X.cuda())
    assert out.dtype == torch.bfloat16
    wrapper.update_params(F.mse_loss(out.float(), Y.cuda()))
    assert torch.isfinite(net[0].weight).all()
