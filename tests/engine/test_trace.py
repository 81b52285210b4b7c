"""The module in which the first value that is not finite appears, forwards and backwards."""

import pytest
import torch
from torch import nn

from mimseg.engine.trace import Trace


class Overflow(nn.Module):
    """Planted: infinite where x is large."""

    def forward(self, x):
        return (x * 1e30) * 1e30


class Root(nn.Module):
    """Planted: the root of 0, finite, with an infinite slope."""

    def forward(self, x):
        return (x * 0).sqrt()


class Block(nn.Module):
    def __init__(self, inner, between=None):
        super().__init__()
        self.norm, self.inner, self.between = nn.LayerNorm(4), inner, between
        self.act = nn.ReLU(inplace=isinstance(inner, nn.Linear) and between is None)

    def forward(self, x):
        y = self.inner(self.norm(x))
        if self.between is not None:
            y = self.between(y)
        return x + self.act(y)


class Net(nn.Module):
    def __init__(self, *blocks):
        super().__init__()
        self.stem, self.blocks, self.last = nn.Linear(4, 4), nn.ModuleList(blocks), nn.Linear(4, 1)

    def forward(self, x):
        x = self.stem(x)
        for block in self.blocks:
            x = block(x)
        return self.last(x).sum()


def trace(net, x=None):
    torch.manual_seed(0)
    watched = Trace(net)
    with watched.watch():
        net(torch.randn(3, 4) if x is None else x).backward()
    return watched.origin


def plain():
    return Block(nn.Linear(4, 4))


def test_nothing_where_all_is_finite():
    net = Net(plain(), plain())
    assert trace(net) is None
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in net.modules())
    gradients = [p.grad.clone() for p in net.parameters()]
    net.zero_grad()
    torch.manual_seed(0)
    net(torch.randn(3, 4)).backward()
    assert all(map(torch.equal, gradients, (p.grad for p in net.parameters())))


def test_forwards_in_a_module():
    origin = trace(Net(plain(), Block(Overflow()), plain()))
    assert (origin.phase, origin.module, origin.kind) == ("forward", "blocks.1.inner", "Overflow")
    assert origin.place == "its output" and 0 < origin.before < 10 and origin.weights is None
    assert origin.rows == (0, 1, 2) and origin.shape == (3, 4)
    assert "forward, in blocks.1.inner (Overflow): its output, 100% of 3x4" in origin.text()


def test_forwards_in_the_code_between_modules():
    origin = trace(Net(plain(), Block(nn.Linear(4, 4), lambda y: y / 0)))
    assert origin.module == "blocks.1" and origin.place == "the input of blocks.1.act"


def test_forwards_in_the_images():
    x = torch.randn(3, 4)
    x[1, 2] = torch.nan
    origin = trace(Net(plain()), x)
    assert origin.module == "" and origin.rows == (1,)
    assert "the model" in origin.text()


def test_forwards_by_a_weight():
    net = Net(plain())
    net.blocks[0].inner.weight.data[0, 0] = torch.inf
    origin = trace(net)
    assert origin.module == "blocks.0.inner" and "its weights are not finite" in origin.text()


def test_backwards_in_a_module():
    origin = trace(Net(plain(), Block(Root()), plain()))
    assert (origin.phase, origin.module, origin.kind) == ("backward", "blocks.1.inner", "Root")
    assert origin.place == "the gradient of its input" and origin.before < 10


@pytest.mark.parametrize("planted", [lambda y: (y * 0).sqrt(), lambda y: (y * 0).abs() ** 0.5])
def test_backwards_in_the_code_between_modules(planted):
    origin = trace(Net(plain(), Block(nn.Linear(4, 4), planted)))
    assert origin.phase == "backward" and origin.module == "blocks.1"
    assert origin.place == "the gradient of the output of blocks.1.inner"


def test_backwards_where_modules_share_an_input():
    """The residual adds to the gradient of what both read: the module alone is at fault."""

    class Fork(nn.Module):
        def __init__(self):
            super().__init__()
            self.good, self.bad = nn.Linear(4, 4), Root()

        def forward(self, x):
            return self.good(x) + self.bad(x) + x

    assert trace(Net(Fork())).module == "blocks.0.bad"


def test_backwards_at_a_weight():
    class Scaled(nn.Module):
        def __init__(self):
            super().__init__()
            self.gain = nn.Parameter(torch.zeros(4))

        def forward(self, x):
            return x + self.gain.abs().sqrt()

    origin = trace(Net(plain(), Block(Scaled())))
    assert origin.module == "blocks.1.inner" and origin.place == "the gradient of its gain"


def test_dicts_and_keywords_are_seen():
    class Named(nn.Module):
        def forward(self, *, tokens):
            return {"tokens": [tokens / 0]}

    class Caller(nn.Module):
        def __init__(self):
            super().__init__()
            self.named = Named()

        def forward(self, x):
            return self.named(tokens=x)["tokens"][0]

    assert trace(Net(Caller())).module == "blocks.0.named"
