"""The three doors, the two numeric paths, and small models that the tests share."""

import sys

import pytest
import torch
from torch import nn

from sharpmin.optim._numeric import foreach
from sharpmin.optim._numeric.kinds import pieces


def block(opt, backward):
    opt.zero_grad()
    loss = backward()
    with opt.perturbed():
        backward()
    opt.step()
    return loss


def closure(opt, backward):
    def both():
        opt.zero_grad()
        return backward()

    return opt.step(both)


def raw(opt, backward):
    opt.zero_grad()
    loss = backward()
    opt.perturb()
    backward()
    opt.restore()
    opt.step()
    return loss


@pytest.fixture(params=[block, closure, raw], ids=lambda f: f.__name__)
def door(request):
    """`door(opt, backward)` takes one SAM step, where `backward()` is forward plus backward; returns the clean loss."""
    return request.param


@pytest.fixture
def block_door():
    return block


def those_that_ask():
    """Every module of the optimizer that asks whether tensors are on the host."""
    return [m for name, m in list(sys.modules.items()) if name.startswith("sharpmin.optim") and hasattr(m, "on_host")]


@pytest.fixture
def accelerator(monkeypatch):
    """The path of an accelerator, on CPU tensors: norms stay 0-dim tensors."""
    for module in those_that_ask():
        monkeypatch.setattr(module, "on_host", lambda _: False)
    monkeypatch.setattr(foreach, "_pieces", lambda ts: [piece for t in ts for piece in pieces(t)])  # each by itself


@pytest.fixture
def loops(monkeypatch):
    """The plain loops alone."""
    monkeypatch.setattr(foreach, "serves", lambda *_: False)


PATHS = {"host": (), "accelerator": ("accelerator",), "accelerator loops": ("accelerator", "loops")}


@pytest.fixture(params=PATHS)
def path(request):
    """All numeric paths: who waits for no value, and the plain loops of both."""
    for fixture in PATHS[request.param]:
        request.getfixturevalue(fixture)
    return request.param


class Quadratic:
    """f(w) = 0.5 (w1^2 + 4 w2^2) from (3, 1)."""

    def __init__(self, dtype=torch.float64, start=(3.0, 1.0)):
        self.w = nn.Parameter(torch.tensor(start, dtype=dtype))
        self.visited = []

    def __call__(self):
        self.visited.append(self.w.detach().clone())
        with torch.enable_grad():
            loss = 0.5 * (self.w[0] ** 2 + 4 * self.w[1] ** 2)
        loss.backward()
        return loss


@pytest.fixture
def quadratic():
    return Quadratic


class Training:
    """A two-layer network in float64 on fixed data, with a count of its forward passes."""

    def __init__(self):
        torch.manual_seed(1)
        self.net = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3)).double()
        self.x, self.y = torch.randn(16, 4).double(), torch.randint(3, (16,))
        self.forwards = 0

    def __call__(self):
        self.forwards += 1
        loss = nn.functional.cross_entropy(self.net(self.x), self.y)
        loss.backward()
        return loss

    @property
    def weights(self):
        return [p.detach().clone() for p in self.net.parameters()]


@pytest.fixture
def training():
    return Training


def tree(value):
    """A comparable copy of nested state, tensors by their bits."""
    if isinstance(value, torch.Tensor):
        return str(value.dtype), tuple(value.shape), value.detach().contiguous().reshape(-1).view(torch.uint8).tolist()
    if isinstance(value, dict):
        return {key: tree(item) for key, item in value.items()}
    return [tree(item) for item in value] if isinstance(value, (list, tuple)) else value


@pytest.fixture
def bits():
    """`bits(a) == bits(b)` iff all tensors in `a` and `b` agree bit for bit."""
    return tree
