"""One optimizer around another: groups, state and defaults are the base's own, whatever is done through either."""

import copy
import pickle

import pytest
import torch
from torch import nn

import sharpmin as sm

MAKERS = {
    "sgd": lambda ps: torch.optim.SGD(ps, lr=0.1, momentum=0.9),
    "adam": lambda ps: torch.optim.Adam(ps, lr=0.1),
    "adam-foreach": lambda ps: torch.optim.Adam(ps, lr=0.1, foreach=True),
    "adam-fused": lambda ps: torch.optim.Adam(ps, lr=0.1, fused=True),
    "sgd-tensor-lr": lambda ps: torch.optim.SGD(ps, lr=torch.tensor(0.1), momentum=0.9),
    "rprop": lambda ps: torch.optim.Rprop(ps, lr=0.1),
}


def linked(opt):
    return opt.param_groups is opt.base.param_groups and opt.state is opt.base.state and opt.defaults is opt.base.defaults


@pytest.fixture
def stepped(training, door):
    """An Adam-based SAM after two steps, its problem, and its door."""
    f = training()
    opt = sm.SAM(torch.optim.Adam(f.net.parameters(), lr=0.1), rho=0.5)
    for _ in range(2):
        door(opt, f)
    return opt, f, door


def test_it_is_an_optimizer_and_owns_nothing(stepped):
    opt, f, _ = stepped
    assert isinstance(opt, torch.optim.Optimizer)
    assert linked(opt)
    assert {frozenset(state) for state in opt.state.values()} == {frozenset({"step", "exp_avg", "exp_avg_sq"})}
    assert set(opt.state) == set(f.net.parameters())


def test_wrapping_keeps_the_state_of_a_base_that_has_stepped(training, bits):
    f = training()
    base = torch.optim.Adam(f.net.parameters(), lr=0.1)
    f()
    base.step()
    state = base.state_dict()["state"]
    assert bits(sm.SAM(base, rho=0.5).state_dict()["state"]) == bits(state)
    assert bits(base.state_dict()["state"]) == bits(state)


@pytest.mark.parametrize("through", ["wrapper", "base"])
def test_load_keeps_the_link(stepped, through):
    opt, f, door = stepped
    saved = copy.deepcopy(opt.state_dict())
    saved["param_groups"][0]["lr"] = 0.25
    (opt if through == "wrapper" else opt.base).load_state_dict(saved)
    assert linked(opt)
    assert (opt.param_groups[0]["lr"], opt.base.param_groups[0]["lr"]) == (0.25, 0.25)
    door(opt, f)
    assert opt.last.stepped


@pytest.mark.parametrize("loaded", [False, True])
@pytest.mark.parametrize("through", ["wrapper", "base"])
def test_add_param_group(stepped, through, loaded):
    opt, f, door = stepped
    if loaded:
        opt.load_state_dict(copy.deepcopy(opt.state_dict()))
    extra = nn.Parameter(torch.ones(3, dtype=torch.float64))
    (opt if through == "wrapper" else opt.base).add_param_group({"params": [extra], "lr": 0.5})
    assert linked(opt)
    inside = []

    def backward():
        inside.append(extra.detach().clone())
        f()
        extra.square().sum().backward()

    door(opt, backward)
    assert not torch.equal(inside[1], inside[0])
    assert extra.tolist() == pytest.approx([0.5] * 3, abs=1e-6)
    assert opt.state[extra]["step"] == 1
    assert [group["sharpmin_step"] for group in opt.param_groups] == [3, 3]


@pytest.mark.parametrize("through", ["wrapper", "base"])
@pytest.mark.parametrize("how", ["entry", "list"])
def test_groups_may_be_replaced(stepped, through, how):
    """The new group is stepped, with SAM's rho and at SAM's place in the schedule, though it knows neither."""
    opt, f, door = stepped
    opt.rho = sm.rho.InverseSqrt(0.5)
    target = opt if through == "wrapper" else opt.base
    new = {k: v for k, v in opt.param_groups[0].items() if k not in ("rho", "sharpmin_step")} | {"lr": 0.0}
    if how == "entry":
        target.param_groups[0] = new
    else:
        target.param_groups = [new]
    assert linked(opt)
    was = f.weights
    door(opt, f)
    assert opt.last.rho == pytest.approx(0.5 / 3**0.5)
    assert all(torch.equal(a, b) for a, b in zip(f.weights, was, strict=True))
    assert new["sharpmin_step"] == 3


@pytest.mark.parametrize("clone", [copy.deepcopy, lambda pair: pickle.loads(pickle.dumps(pair))], ids=["deepcopy", "pickle"])
@pytest.mark.parametrize("rho", [0.5, sm.rho.Capped(sm.rho.Cosine(0.5, steps=9), c=0.3)], ids=str)
def test_a_copy_goes_on_alone(training, door, bits, clone, rho):
    f = training()
    opt = sm.SAM(torch.optim.Adam(f.net.parameters(), lr=0.1), rho=rho, skip_nonfinite=True)
    torch.optim.lr_scheduler.StepLR(opt, 1)
    torch.optim.lr_scheduler.StepLR(opt.base, 1)
    for _ in range(2):
        door(opt, f)
    g, other = clone((f, opt))
    assert linked(other)
    assert type(other) is sm.SAM
    assert (repr(other), other.skip_nonfinite, other.last) == (repr(opt), True, opt.last)
    was = bits(f.weights)
    door(other, g)
    after = bits(g.weights)
    assert bits(f.weights) == was
    assert after != was
    door(opt, f)
    assert bits(f.weights) == after


def test_a_copy_of_the_optimizer_alone_has_its_own_parameters(stepped, bits):
    opt, f, door = stepped
    other = copy.deepcopy(opt)
    copies = other.param_groups[0]["params"]
    assert bits(copies) == bits(opt.param_groups[0]["params"])
    assert not {id(p) for p in copies} & {id(p) for p in f.net.parameters()}
    door(other, lambda: sum(p.square().sum() for p in copies).backward())
    assert all(p in other.state for p in copies)


@pytest.mark.parametrize("on", ["wrapper", "base"])
def test_instance_hooks_fire_once(stepped, on):
    opt, f, door = stepped
    target, fired = (opt if on == "wrapper" else opt.base), []
    target.register_step_pre_hook(lambda o, *_: fired.append(("pre", o is target)))
    target.register_step_post_hook(lambda o, *_: fired.append(("post", o is target)))
    door(opt, f)
    assert fired == [("pre", True), ("post", True)]


def test_global_hooks_fire_for_both(stepped):
    from torch.optim.optimizer import register_optimizer_step_post_hook

    opt, f, door = stepped
    fired = []
    handle = register_optimizer_step_post_hook(lambda o, *_: fired.append(type(o).__name__))
    try:
        door(opt, f)
    finally:
        handle.remove()
    assert fired == ["Adam", "SAM"]


@pytest.mark.parametrize("kind", ["state_dict", "load_state_dict"])
def test_state_dict_hooks(stepped, kind):
    opt, fired = stepped[0], []
    saved = opt.state_dict()
    for target, name in ((opt, "wrapper"), (opt.base, "base")):
        getattr(target, f"register_{kind}_pre_hook")(lambda *_, name=name: fired.append(("pre", name)))
        getattr(target, f"register_{kind}_post_hook")(lambda *_, name=name: fired.append(("post", name)))
    opt.state_dict() if kind == "state_dict" else opt.load_state_dict(saved)
    assert fired == [("pre", "wrapper"), ("pre", "base"), ("post", "base"), ("post", "wrapper")]


def test_state_dict_hooks_may_replace(stepped):
    opt, *_ = stepped
    opt.register_state_dict_post_hook(lambda _, state: {**state, "extra": 1})
    state = opt.state_dict()
    assert state["extra"] == 1
    lower = {**state, "param_groups": [{**state["param_groups"][0], "lr": 0.125}]}
    opt.register_load_state_dict_pre_hook(lambda *_: lower)
    opt.load_state_dict(state)
    assert opt.base.param_groups[0]["lr"] == 0.125


def test_profiler_sees_one_step_of_each(stepped):
    opt, f, door = stepped
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        door(opt, f)
    counts = {e.key: e.count for e in profile.key_averages() if e.key.startswith("Optimizer.step#")}
    assert counts == {"Optimizer.step#SAM.step": 1, "Optimizer.step#Adam.step": 1}


@pytest.mark.parametrize("set_to_none", [True, False])
def test_zero_grad_is_the_base_s(stepped, set_to_none):
    opt, f, _ = stepped
    f()
    opt.zero_grad(set_to_none=set_to_none)
    assert all((p.grad is None) if set_to_none else (p.grad.count_nonzero() == 0) for p in f.net.parameters())


@pytest.mark.parametrize("name", MAKERS)
def test_bases(training, door, bits, name):
    """SAM is its base, fed by hand with the gradient at w + e."""
    f, g = training(), training()
    opt = sm.SAM(MAKERS[name](f.net.parameters()), rho=0.5)
    base = MAKERS[name](g.net.parameters())
    for _ in range(4):
        door(opt, f)
        base.zero_grad()
        g()
        was, grads = g.weights, [p.grad for p in g.net.parameters()]
        norm = torch.cat([h.flatten() for h in grads]).norm()
        with torch.no_grad():
            for p, h in zip(g.net.parameters(), grads, strict=True):
                p.add_(h * (0.5 / norm))
        base.zero_grad()
        g()
        with torch.no_grad():
            for p, w in zip(g.net.parameters(), was, strict=True):
                p.copy_(w)
        base.step()
    assert all(torch.allclose(a, b, rtol=0, atol=1e-12) for a, b in zip(f.weights, g.weights, strict=True))


def test_repr_says_what_it_wraps(stepped):
    text = repr(stepped[0])
    assert text.startswith("SAM(rho=0.5, geometry=L2(), base=Adam (")


@pytest.mark.parametrize("several", [False, True])
def test_repr_shows_the_base_without_what_sam_keeps_in_its_groups(several):
    """And the groups stay as they are."""

    def bases():
        ps = [torch.nn.Parameter(torch.ones(1)) for _ in range(3)]
        return [torch.optim.SGD([{"params": ps[:1]}, {"params": ps[1:2], "lr": 0.3}], lr=0.1), torch.optim.Adam(ps[2:])]

    ours, plain = bases(), bases()
    opt = sm.SAM(ours if several else ours[0], 0.1)
    for group in (group for base in plain for group in base.param_groups):
        group["rho"] = 0.1
    shown = f"[{plain[0]!r}, {plain[1]!r}]" if several else repr(plain[0])
    assert repr(opt) == str(opt) == f"SAM(rho=0.1, geometry=L2(), base={shown})"
    assert [group["sharpmin_step"] for group in opt.param_groups] == [0] * (3 if several else 2)


class Noted(sm.SAM):
    """A subclass with something of its own."""

    def __init__(self, base, note):
        super().__init__(base)
        self.note = note


@pytest.mark.parametrize("clone", [copy.deepcopy, lambda o: pickle.loads(pickle.dumps(o))], ids=["deepcopy", "pickle"])
def test_what_a_subclass_adds_is_copied_and_hooks_are_not(quadratic, door, clone):
    f = quadratic()
    opt, fired = Noted(torch.optim.SGD([f.w], lr=0.1), note="x"), []
    opt.register_step_pre_hook(lambda *_: fired.append(1))
    torch.optim.lr_scheduler.StepLR(opt, 1)
    other, g = clone((opt, f))
    assert (type(other), other.note) == (Noted, "x")
    door(other, g)
    assert fired == []
    door(opt, f)
    assert fired == [1]


def test_a_proxy_that_copies_the_attributes_shares_the_step(quadratic):
    """As Lightning's wrapper does: a class made from ours, with a copy of `__dict__`."""
    f = quadratic()
    opt = sm.SAM(torch.optim.SGD([f.w], lr=0.1), rho=0.5)
    proxy = object.__new__(type("Proxy", (sm.SAM,), {}))
    proxy.__dict__.update({k: v for k, v in opt.__dict__.items() if k != "step"})
    f()
    with proxy.perturbed():
        with pytest.raises(sm.PhaseError):
            opt.state_dict()
        f()
    opt.step()
    assert f.w.tolist() == pytest.approx([2.67, 0.44], abs=1e-9)
    assert proxy.last == opt.last
    assert proxy.last.stepped
