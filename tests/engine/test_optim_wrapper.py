"""Steps that are not finite change nothing, whether the host decides or the device."""

import copy
import math

import pytest
import torch
from mmengine.optim import OptimWrapper as MMEngineOptimWrapper
from torch import nn

from dev.trial import fork
from mimseg.engine import amp_optim_wrapper, optim_wrapper, verdict
from mimseg.engine.amp_optim_wrapper import AmpOptimWrapper
from mimseg.engine.optim_wrapper import OptimWrapper, with_our_wrapper
from mimseg.engine.teacher_update_hook import TeacherUpdateHook
from mimseg.errors import UserError

DATA = torch.Generator().manual_seed(1)
BATCHES = [torch.randn(8, 6, generator=DATA) for _ in range(6)]
OPTIMIZERS = {
    "adamw": lambda p: torch.optim.AdamW(p, lr=0.1),
    "fused adamw": lambda p: torch.optim.AdamW(p, lr=0.1, fused=True),
    "fused sgd": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, fused=True),
    "rprop": lambda p: torch.optim.Rprop(p, lr=0.1),
}


class Net(nn.Module):
    """A batch norm, a buffer that is replaced in each step, and a count of iterations."""

    counters = ("count",)

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm, self.last = nn.Linear(6, 5), nn.BatchNorm1d(5), nn.Linear(5, 1)
        self.register_buffer("mean", torch.zeros(()))
        self.register_buffer("count", torch.tensor(0))

    def forward(self, x):
        self.mean = 0.9 * self.mean + 0.1 * x.mean()
        self.count += 1
        return self.last(self.norm(self.first(x)).relu()).square().mean()


@pytest.fixture
def net():
    torch.manual_seed(0)
    return Net()


@pytest.fixture
def device(monkeypatch):
    """Lets the host read late, as from a GPU: its tensors count as another device's."""
    for module in (verdict, optim_wrapper):
        monkeypatch.setattr(module, "is_host", lambda device: False)


def nan_loss(net, x):
    return net(x) * math.nan


def infinite_gradient(net, x):
    """A finite loss: the root of 0 has an infinite slope."""
    return net(x) + (net.first.bias - net.first.bias.detach()).abs().sum().sqrt()


def loss_alone(net, x):
    """A loss that is not finite, and a gradient that is."""
    return net(x) + math.inf


def step(wrapper, net, x, compute=lambda net, x: net(x)):
    with wrapper.optim_context(net):
        loss = compute(net, x)
    wrapper.update_params(loss)


def state(net, wrapper, counters=False):
    tensors = {k: v.clone() for k, v in net.state_dict().items() if counters or k != "count"}
    return tensors, copy.deepcopy(wrapper.optimizer.state_dict()["state"])


def assert_equal(one, two):
    torch.testing.assert_close(one, two, rtol=0, atol=0)


@pytest.mark.parametrize("kind", OPTIMIZERS)
@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("bad", [nan_loss, infinite_gradient, loss_alone])
def test_a_skipped_step_is_as_if_it_never_was(kind, late, bad, net, request):
    if late:
        request.getfixturevalue("device")
    twin = copy.deepcopy(net)
    wrappers = [
        OptimWrapper(OPTIMIZERS[kind](n.parameters()), skip_nonfinite=2) for n in (net, twin)
    ]
    for index, x in enumerate(BATCHES):
        if index in (0, 3, 4):  # the very first, and two in a row
            before = state(net, wrappers[0])
            step(wrappers[0], net, x, bad)
            assert_equal(state(net, wrappers[0]), before)
            assert all(p.grad is None for p in net.parameters())
        else:
            step(wrappers[0], net, x)
            step(wrappers[1], twin, x)
        assert_equal(state(net, wrappers[0]), state(twin, wrappers[1]))
    assert net.count == 6 and twin.count == 3  # iterations are counted, skipped ones included


@pytest.mark.parametrize("late", [False, True])
def test_after_too_many_no_step_counts(late, net, request):
    """By the time that the host knows, the state is still that before the first step too many."""
    if late:
        request.getfixturevalue("device")
    wrapper = OptimWrapper(OPTIMIZERS["fused adamw"](net.parameters()), skip_nonfinite=1)
    for x in BATCHES[:2]:
        step(wrapper, net, x)
    step(wrapper, net, BATCHES[2], nan_loss)  # allowed
    step(wrapper, net, BATCHES[3])  # and forgotten
    step(wrapper, net, BATCHES[4], nan_loss)
    before = state(net, wrapper, counters=True)
    wrapper.judge.iteration = 5
    step(wrapper, net, BATCHES[5], nan_loss)
    step(wrapper, net, BATCHES[0])
    assert_equal(state(net, wrapper, counters=True), before)
    verdicts = wrapper.judge.verdicts(wait=True)
    assert [v.over for v in verdicts[-2:]] == [True, True]
    assert verdicts[-2].iteration == 5 and verdicts[-2].ranks == (0,) and not verdicts[-2].gradient


def test_the_host_reads_a_step_later(net, device):
    wrapper = OptimWrapper(OPTIMIZERS["fused adamw"](net.parameters()), skip_nonfinite=9)
    seen = []
    for number, x in enumerate(BATCHES[:3]):
        wrapper.judge.iteration = number
        step(wrapper, net, x, nan_loss if number == 1 else Net.__call__)
        seen.append([v.iteration for v in wrapper.judge.verdicts()])
    assert seen == [[], [0], [1]]
    (last,) = wrapper.judge.verdicts(wait=True)
    assert last.iteration == 2 and last.skipped == 0 and math.isfinite(last.norm)


@pytest.mark.parametrize("late", [False, True])
def test_one_bad_iteration_drops_the_whole_accumulated_step(late, net, request):
    if late:
        request.getfixturevalue("device")
    optimizer = OPTIMIZERS["fused adamw"](net.parameters())
    wrapper = OptimWrapper(optimizer, accumulative_counts=2, skip_nonfinite=1)
    for x in BATCHES[:2]:
        step(wrapper, net, x)
    before = state(net, wrapper)
    step(wrapper, net, BATCHES[2], loss_alone)
    assert not torch.equal(net.norm.running_mean, before[0]["norm.running_mean"])
    step(wrapper, net, BATCHES[3])
    assert_equal(state(net, wrapper), before)
    for x in BATCHES[4:]:
        step(wrapper, net, x)
    assert not torch.equal(net.last.weight, before[0]["last.weight"])
    assert [v.skipped for v in wrapper.judge.verdicts(wait=True)] == [0, 1, 0]


@pytest.mark.parametrize("clip", [{"max_norm": 0.01}, {"type": "value", "clip_value": 0.01}])
def test_clips_as_mmengine_does_and_logs_the_norm_before(clip, net):
    twin, third = copy.deepcopy(net), copy.deepcopy(net)
    ours = OptimWrapper(torch.optim.SGD(net.parameters(), lr=0.1), clip_grad=dict(clip))
    theirs = MMEngineOptimWrapper(torch.optim.SGD(twin.parameters(), lr=0.1), clip_grad=dict(clip))
    step(ours, net, BATCHES[0])
    step(theirs, twin, BATCHES[0])
    assert_equal(dict(net.named_parameters()), dict(twin.named_parameters()))
    third(BATCHES[0]).backward()
    norm = torch.cat([p.grad.flatten() for p in third.parameters()]).norm().item()
    assert ours.message_hub.get_scalar("train/grad_norm").current() == pytest.approx(norm)
    step(ours, net, BATCHES[2], infinite_gradient)  # clipping by value would hide it
    assert ours.skipped
    assert ours.message_hub.get_scalar("train/grad_norm").current() == pytest.approx(norm)


def test_bfloat16_skips_too(net, monkeypatch):
    monkeypatch.setattr(amp_optim_wrapper, "bf16_supported", lambda device_type: True)
    wrapper = AmpOptimWrapper(OPTIMIZERS["adamw"](net.parameters()), skip_nonfinite=1)
    step(wrapper, net, BATCHES[0])
    before = state(net, wrapper)
    # 1e38 is finite in bfloat16, its double is not
    step(wrapper, net, BATCHES[1], lambda net, x: net.last(net.first(x)).mean() * 3e38 * 3)
    assert wrapper.skipped and wrapper.precision == "bfloat16"
    assert_equal(state(net, wrapper), before)


@pytest.mark.parametrize("saved", [True, False])
def test_a_checkpoint_continues_fused_or_not_as_the_run_has_it(saved, net, device):
    """A checkpoint of a CPU resumes on a GPU: its way of computing must not come with it."""
    first = OptimWrapper(torch.optim.AdamW(net.parameters(), lr=0.1, fused=saved))
    step(first, net, BATCHES[0])
    other = copy.deepcopy(net)
    second = OptimWrapper(torch.optim.AdamW(other.parameters(), lr=0.2, fused=not saved))
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    assert second.optimizer.param_groups[0]["fused"] is not saved
    assert second.optimizer.param_groups[0]["lr"] == 0.1
    for wrapper, model in ((first, net), (second, other)):
        step(wrapper, model, BATCHES[1])
    torch.testing.assert_close(net.state_dict(), other.state_dict())


def test_a_plain_wrapper_means_ours_and_is_fused_on_a_gpu():
    cfg = dict(type="OptimWrapper", optimizer=dict(type="AdamW", lr=1.0))
    ours = with_our_wrapper(cfg, "cuda")
    assert ours == dict(
        type="mimseg.OptimWrapper", optimizer=dict(type="AdamW", lr=1.0, fused=True)
    )
    assert "fused" not in cfg["optimizer"]
    assert "fused" not in with_our_wrapper(cfg, "cpu")["optimizer"]
    cfg["optimizer"]["foreach"] = True
    assert "fused" not in with_our_wrapper(cfg, "cuda")["optimizer"]
    for other in (dict(type="AmpOptimWrapper", optimizer={}), dict(constructor="Many"), None):
        assert with_our_wrapper(other, "cuda") is other


@pytest.mark.parametrize("value", [-1, 1.5, "3"])
def test_the_number_of_steps_is_checked(value, net):
    with pytest.raises(UserError, match="skip_nonfinite.*whole number"):
        OptimWrapper(OPTIMIZERS["adamw"](net.parameters()), skip_nonfinite=value)


def test_a_teacher_does_not_follow_a_skipped_step(net):
    class Teacher:
        updates = 0

        def update(self, student, total):
            self.updates += 1

    class Runner:
        model, max_iters = net, 4
        optim_wrapper = OptimWrapper(OPTIMIZERS["adamw"](net.parameters()), skip_nonfinite=1)

    teacher = Teacher()
    net.backbone = net.first
    net.bank = type("Bank", (), {"teachers": {"ema": teacher}})
    hook = TeacherUpdateHook()
    hook.before_train(Runner)
    for x, compute in zip(BATCHES, (Net.__call__, nan_loss, Net.__call__), strict=False):
        step(Runner.optim_wrapper, net, x, compute)
        hook.after_train_iter(Runner, 0)
    assert teacher.updates == 2


def test_what_one_rank_cannot_use_no_rank_uses(tmp_path):
    def work():
        torch.distributed.init_process_group("gloo")
        rank = torch.distributed.get_rank()
        torch.manual_seed(0)
        net = Net()
        wrapper = OptimWrapper(OPTIMIZERS["adamw"](net.parameters()), skip_nonfinite=1)
        step(wrapper, net, BATCHES[0])
        before = state(net, wrapper)
        step(wrapper, net, BATCHES[1], loss_alone if rank == 1 else Net.__call__)
        assert_equal(state(net, wrapper), before)
        assert wrapper.judge.verdicts()[-1].ranks == (1,)
        step(wrapper, net, BATCHES[2])
        assert not torch.equal(net.last.weight, before[0]["last.weight"])
        return 0

    log = tmp_path / "log"
    assert fork(2, work, log).wait(60) == [0, 0], log.read_text()
