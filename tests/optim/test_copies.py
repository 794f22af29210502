"""Copies of an optimizer whose base keeps more than groups, state and defaults: torch's own way of copying loses that."""

import copy
import pickle
import types

import pytest
import torch
from torch import nn

import sharpmin as sm
from sharpmin.diagnostics import toggle

lion_pytorch = pytest.importorskip("lion_pytorch")


def half(t):
    return t / 2


class Rich(torch.optim.SGD):
    """A base with attributes of every kind, all of which its step needs."""

    def __init__(self, model, lr=0.1):
        super().__init__(model.parameters(), lr=lr, momentum=0.5)
        self.model = model
        self.first = next(model.parameters())
        self._private = {"factor": 0.25, "calls": 0}
        self.function = half
        self.method = self._scaled
        self.inner = torch.optim.SGD(model.parameters(), lr=0.01)
        self.inner.note = "inside"
        self.several = [torch.optim.SGD(model.parameters(), lr=0.001)]
        self.several[0].note = "in a list"

    def _scaled(self, t):
        self._private["calls"] += 1
        return t * self._private["factor"]

    @torch.no_grad()
    def step(self, closure=None):
        notes = (self.inner.note, self.several[0].note)
        if notes != ("inside", "in a list") or self.first is not next(self.model.parameters()):
            raise AssertionError(notes)
        super().step()
        self.first.sub_(self.function(self.method(self.first)))
        self.inner.step()


class Caller(torch.optim.SGD):
    """A base with a lambda, which can be copied and not pickled."""

    def __init__(self, model, lr=0.1):
        super().__init__(model.parameters(), lr=lr)
        self.f = lambda t: t * 0.9

    @torch.no_grad()
    def step(self, closure=None):
        for p in self.param_groups[0]["params"]:
            p.copy_(self.f(p))
        super().step()


def lion(model):
    return lion_pytorch.Lion(model.parameters(), lr=0.01, weight_decay=0.1, decoupled_weight_decay=True)


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3)).double()


X, Y = torch.linspace(-1, 1, 24).double().reshape(6, 4), torch.tensor([0, 1, 2, 0, 1, 2])


def train(model, opt, steps=3):
    for _ in range(steps):

        def closure():
            opt.zero_grad()
            loss = nn.functional.cross_entropy(model(X), Y)
            loss.backward()
            return loss

        opt.step(closure)


def same(one, other):
    return all(torch.equal(p, q) for p, q in zip(one.parameters(), other.parameters(), strict=True))


def pickled(pair):
    return pickle.loads(pickle.dumps(pair))


BASES = [(lion, copy.deepcopy), (lion, pickled), (Rich, copy.deepcopy), (Rich, pickled), (Caller, copy.deepcopy)]


@pytest.mark.parametrize("where", ["nowhere", "on SAM", "on the base"])
@pytest.mark.parametrize(("make", "how"), BASES)
def test_a_copy_steps_as_the_original_does_and_alone(make, how, where):
    model = network()
    opt = sm.SAM(make(model), rho=0.1)
    calls = []
    if where != "nowhere":
        target = opt if where == "on SAM" else opt.base
        scheduler = torch.optim.lr_scheduler.StepLR(target, 2)
        target.register_step_pre_hook(lambda optimizer, *_: calls.append(optimizer))
    train(model, opt)
    if where != "nowhere":
        scheduler.step()
    twin, copied = how((model, opt))
    assert same(model, twin)
    was = [p.detach().clone() for p in model.parameters()]
    calls.clear()
    train(twin, copied)
    assert calls == []  # neither a hook of the original, nor its step
    assert all(torch.equal(p, w) for p, w in zip(model.parameters(), was, strict=True))
    train(model, opt)
    assert same(model, twin)
    if where == "on SAM":
        assert all(optimizer is opt for optimizer in calls)


def test_references_lead_to_the_copy():
    model = network()
    opt = sm.SAM(Rich(model), rho=0.1)
    train(model, opt)
    for how in (copy.deepcopy, pickled):
        twin, copied = how((model, opt))
        base = copied.base
        assert base.model is twin
        assert base.first is next(twin.parameters())
        assert isinstance(base.method, types.MethodType)
        assert base.method.__self__ is base
        assert base.function is half
        assert base._private is not opt.base._private
        assert base.inner is not opt.base.inner
        assert base.inner.param_groups[0]["params"][0] is base.first


def test_a_copy_of_a_copy():
    model = network()
    opt = sm.SAM(lion(model), rho=0.1)
    train(model, opt)
    pair = copy.deepcopy(pickled(copy.deepcopy((model, opt))))
    train(*pair)
    train(model, opt)
    assert same(model, pair[0])


def test_several_bases():
    model = network()
    first, last = lion_pytorch.Lion(model[0].parameters(), lr=0.01), torch.optim.SGD(model[2].parameters(), lr=0.1)
    last.note = "kept"
    opt = sm.SAM([first, last], rho=0.1)
    train(model, opt)
    twin, copied = copy.deepcopy((model, opt))
    train(twin, copied)
    train(model, opt)
    assert same(model, twin)
    assert copied.base.bases[1].note == "kept"


def test_a_base_says_itself_what_it_keeps():
    class Own(torch.optim.SGD):
        def __getstate__(self):
            return dict(super().__getstate__())

    model = network()
    opt = sm.SAM(Own(model.parameters(), lr=0.1), rho=0.1)
    opt.base.left_out = (i for i in range(3))  # cannot be copied
    twin, copied = copy.deepcopy((model, opt))
    train(twin, copied)
    train(model, opt)
    assert same(model, twin)


def test_toggle_works_on_copies_that_step_as_the_run_does():
    model = network()
    opt = sm.SAM(lion(model), rho=0.1)
    train(model, opt)
    twin, alone = copy.deepcopy((model, opt))
    losses = []

    def step(net, o, batch):
        def closure():
            o.zero_grad()
            loss = nn.functional.cross_entropy(net(X), Y)
            loss.backward()
            return loss

        return o.step(closure)

    found = toggle(model, opt, step, [None] * 20, branches=("rho = 0", "lr / 2"))
    for _ in range(20):
        losses.append(step(twin, alone, None).item())
    assert found.losses["rho"] == losses
    assert len({tuple(v) for v in found.losses.values()}) == 3


def test_toggle_says_that_a_run_cannot_be_copied():
    model = network()
    opt = sm.SAM(lion(model), rho=0.1)
    opt.base.open = (i for i in range(3))
    with pytest.raises(TypeError, match=r"toggle: .*Lion.* cannot be copied"):
        toggle(model, opt, lambda *_: 0.0, [None] * 20)
