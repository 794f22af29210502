"""A25: several bases under one SAM, one ball for all of their parameters; each steps its own."""

import copy
import pickle

import pytest
import torch
from torch import nn
from torch.amp import GradScaler

import sharpmin as sm

STEPS = 20


class Net:
    """A matrix for one base, a vector and a scalar for the other."""

    def __init__(self):
        draw = torch.Generator().manual_seed(3)
        self.a = nn.Parameter(torch.randn(4, 3, generator=draw, dtype=torch.float64))
        self.b = nn.Parameter(torch.randn(4, generator=draw, dtype=torch.float64))
        self.c = nn.Parameter(torch.randn((), generator=draw, dtype=torch.float64))
        self.x = torch.randn(8, 3, generator=draw, dtype=torch.float64)

    def __call__(self):
        with torch.enable_grad():
            loss = (torch.tanh(self.x @ self.a.T + self.b) * self.c).square().mean() + self.c.cosh()
        loss.backward()
        return loss

    @property
    def parameters(self):
        return [self.a, self.b, self.c]


PAIRS = {
    "SGD-Adam": (lambda ps: torch.optim.SGD(ps, lr=0.1, momentum=0.9), lambda ps: torch.optim.Adam(ps, lr=0.01)),
    "Muon-AdamW": (lambda ps: torch.optim.Muon(ps, lr=0.02), lambda ps: torch.optim.AdamW(ps, lr=0.01)),
}


def bases(f, pair):
    one, other = PAIRS[pair]
    return [one([f.a]), other([f.b, f.c])]


def by_hand(f, pair, rho=0.1):
    """Perturb by the joint norm, come back, step both."""
    both = bases(f, pair)
    for _ in range(STEPS):
        for p in f.parameters:
            p.grad = None
        f()
        norm = sum(p.grad.square().sum() for p in f.parameters).sqrt()
        was = [p.detach().clone() for p in f.parameters]
        with torch.no_grad():
            for p in f.parameters:
                p.add_(p.grad, alpha=rho / norm.item())
                p.grad = None
        f()
        with torch.no_grad():
            for p, w in zip(f.parameters, was, strict=True):
                p.copy_(w)
        for base in both:
            base.step()
    return [p.detach().clone() for p in f.parameters]


@pytest.mark.parametrize("pair", PAIRS)
def test_equal_to_a_loop_by_hand(path, door, pair):
    f, g = Net(), Net()
    opt = sm.SAM(bases(f, pair), rho=0.1)
    for _ in range(STEPS):
        door(opt, f)
        assert opt.last.radius == pytest.approx(0.1, rel=1e-12)
    for p, w in zip(f.parameters, by_hand(g, pair), strict=True):
        torch.testing.assert_close(p.detach(), w, rtol=1e-10, atol=1e-12)


def test_the_radius_is_that_of_the_ball_and_not_of_two(path):
    f = Net()
    opt = sm.SAM(bases(f, "SGD-Adam"), rho=0.1)
    was = [p.detach().clone() for p in f.parameters]
    f()
    with opt.perturbed():
        moved = sum((p.detach() - w).square().sum() for p, w in zip(f.parameters, was, strict=True)) ** 0.5
        f()
    assert float(moved) == pytest.approx(0.1, rel=1e-12)


@pytest.mark.parametrize("which", [0, 1])
def test_a_scheduler_on_either(which, door):
    """It acts on the groups of its own base, and nobody warns of the order."""
    f, g = Net(), Net()
    opt, other = sm.SAM(bases(f, "SGD-Adam"), rho=0.1), sm.SAM(bases(g, "SGD-Adam"), rho=0.1)
    scheduler = torch.optim.lr_scheduler.StepLR(opt.base.bases[which], step_size=1, gamma=0.5)
    for step in range(5):
        door(opt, f)
        scheduler.step()
        other.base.bases[which].param_groups[0]["lr"] *= 1.0 if step == 0 else 0.5
        door(other, g)
    assert all(torch.equal(p, q) for p, q in zip(f.parameters, g.parameters, strict=True))


def test_a_scheduler_on_sam_and_a_radius_for_one_base(door):
    f = Net()
    first, second = bases(f, "SGD-Adam")
    second.param_groups[0]["rho"] = 0.0
    opt = sm.SAM([first, second], rho=0.1)
    scheduler = torch.optim.lr_scheduler.ExponentialLR(opt, gamma=0.5)
    seen = []

    def backward():
        seen.append(f.b.detach().clone())
        return f()

    door(opt, backward)
    scheduler.step()
    assert torch.equal(seen[0], seen[1])
    assert [group["lr"] for group in opt.param_groups] == [0.05, 0.005]
    assert [group["rho"] for group in opt.param_groups] == [0.1, 0.0]


@pytest.mark.parametrize("overflow", [None, 1, 2])
def test_under_a_scaler(overflow, bits):
    f, g, scaler = Net(), Net(), GradScaler("cpu", init_scale=1024.0)
    opt, other = sm.SAM(bases(f, "SGD-Adam"), rho=0.1), sm.SAM(bases(g, "SGD-Adam"), rho=0.1)

    def backward(net, scale, at):
        with torch.enable_grad():
            loss = (torch.tanh(net.x @ net.a.T + net.b) * net.c).square().mean() + net.c.cosh()
        scale(loss).backward()
        if at:
            net.b.grad[0] = torch.inf

    for step in range(4):
        opt.zero_grad()
        backward(f, scaler.scale, overflow == 1 and step == 2)
        with opt.perturbed(scaler):
            backward(f, scaler.scale, overflow == 2 and step == 2)
        scaler.step(opt)
        scaler.update()
        if overflow is None or step != 2:
            other.zero_grad()
            backward(g, lambda loss: loss, at=False)
            with other.perturbed():
                backward(g, lambda loss: loss, at=False)
            other.step()
        assert opt.last.stepped is (overflow is None or step != 2)
    assert bits(f.parameters) == bits(g.parameters)
    assert scaler.get_scale() == (1024.0 if overflow is None else 512.0)


@pytest.mark.parametrize("pair", PAIRS)
@pytest.mark.parametrize("how", ["state_dict", "deepcopy", "pickle"])
def test_resume_is_exact(pair, how, block_door, bits):
    f, g = Net(), Net()
    opt = sm.SAM(bases(f, pair), rho=sm.rho.Every(0.1, k=2))
    for _ in range(3):
        block_door(opt, f)
    if how == "state_dict":
        saved = pickle.loads(pickle.dumps(opt.state_dict()))
        with torch.no_grad():
            for p, q in zip(g.parameters, f.parameters, strict=True):
                p.copy_(q)
        other = sm.SAM(bases(g, pair), rho=sm.rho.Every(0.1, k=2))
        other.load_state_dict(saved)
    else:
        g, other = copy.deepcopy((f, opt)) if how == "deepcopy" else pickle.loads(pickle.dumps((f, opt)))
    for _ in range(3):
        block_door(opt, f)
        block_door(other, g)
    assert bits(f.parameters) == bits(g.parameters)
    assert bits(opt.state_dict()) == bits(other.state_dict())
    assert [p.data_ptr() for p in f.parameters] != [p.data_ptr() for p in g.parameters]


def test_one_state_dict_of_the_common_form():
    f = Net()
    opt = sm.SAM(bases(f, "SGD-Adam"), rho=0.1)
    f()
    with opt.perturbed():
        f()
    opt.step()
    state = opt.state_dict()
    assert [group["params"] for group in state["param_groups"]] == [[0], [1, 2]]
    assert sorted(state["state"]) == [0, 1, 2]
    assert "exp_avg" in state["state"][1]
    assert [group["sharpmin_step"] for group in state["param_groups"]] == [1, 1]


@pytest.mark.parametrize(
    ("build", "error", "match"),
    [
        (lambda f: [], TypeError, "empty list"),
        (lambda f: [torch.optim.SGD([f.a], lr=0.1), torch.optim.SGD([f.b, f.a], lr=0.1)], ValueError, "two of the bases"),
        (lambda f: [torch.optim.SGD([f.a], lr=0.1)] * 2, ValueError, "two of the bases"),
        (lambda f: [torch.optim.SGD([f.a], lr=0.1), torch.optim.LBFGS([f.b])], TypeError, "LBFGS"),
        (lambda f: [torch.optim.SGD([f.a], lr=0.1), sm.SAM(torch.optim.SGD([f.b], lr=0.1))], TypeError, "itself a SAM"),
        (lambda f: [torch.optim.SGD([f.a], lr=0.1), f.b], TypeError, "not an optimizer instance"),
    ],
)
def test_refused(build, error, match):
    f = Net()
    with pytest.raises(error, match=match):
        sm.SAM(build(f), rho=0.1)


def test_what_belongs_to_one_base_goes_there():
    f = Net()
    opt = sm.SAM([torch.optim.SGD([f.a], lr=0.1), torch.optim.Adam([f.b], lr=0.01)], rho=0.1)
    with pytest.raises(ValueError, match=r"opt\.base\.bases\[i\]\.add_param_group"):
        opt.add_param_group({"params": [f.c]})
    opt.base.bases[1].add_param_group({"params": [f.c]})
    f()
    with opt.perturbed():
        f()
    opt.step()
    assert [group["sharpmin_step"] for group in opt.param_groups] == [1, 1, 1]
    with pytest.raises(TypeError):
        opt.state[f.a] = {}


def test_a_list_of_one_is_that_one():
    base = torch.optim.SGD([Net().a], lr=0.1)
    assert sm.SAM([base]).base is base
