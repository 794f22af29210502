"""What no SAM can go on from is refused before anything has changed; and tiny norms, and default devices."""

import copy
import math

import pytest
import torch
from torch import nn

import sharpmin as sm


def trained(**options):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3)).double()
    opt = sm.SAM(torch.optim.Adam(net.parameters(), lr=0.01), rho=0.1, ascent=sm.Ema(0.5), **options)
    x, y = torch.linspace(-1, 1, 24).double().reshape(6, 4), torch.tensor([0, 1, 2, 0, 1, 2])

    def closure():
        opt.zero_grad()
        loss = nn.functional.cross_entropy(net(x), y)
        loss.backward()
        return loss

    for _ in range(3):
        opt.step(closure)
    return net, opt, closure


def group(key, value):
    def change(state):
        state["param_groups"][0][key] = value
        return state

    return change


def ascent(value):
    def change(state):
        state["sharpmin"]["ascent"][0] = value
        return state

    return change


def of_base(name, value):
    def change(state):
        state["state"][0][name] = value
        return state

    return change


def put(key, value):
    return lambda state: {**state, key: value}


def without(key):
    return lambda state: {k: v for k, v in state.items() if k != key}


BAD = {
    "step nan": group("sharpmin_step", math.nan),
    "step inf": group("sharpmin_step", math.inf),
    "step negative": group("sharpmin_step", -1),
    "step string": group("sharpmin_step", "3"),
    "step 1.5": group("sharpmin_step", 1.5),
    "step True": group("sharpmin_step", True),
    "step None": group("sharpmin_step", None),
    "rho nan": group("rho", math.nan),
    "rho inf": group("rho", math.inf),
    "rho negative": group("rho", -0.1),
    "rho string": group("rho", "0.1"),
    "rho None": group("rho", None),
    "rho True": group("rho", True),
    "rho tensor": group("rho", torch.tensor([0.1, 0.2])),
    "nan": ascent(torch.full((5, 4), math.nan).double()),
    "inf": ascent(torch.full((5, 4), math.inf).double()),
    "shape": ascent(torch.zeros(4, 5).double()),
    "no tensor": ascent([0.0]),
    "complex": ascent(torch.zeros(5, 4, dtype=torch.complex128)),
    "index": lambda state: {**state, "sharpmin": {"ascent": {99: torch.zeros(1)}}},
    "index string": lambda state: {**state, "sharpmin": {"ascent": {"0": torch.zeros(5, 4).double()}}},
    "ascent a list": put("sharpmin", {"ascent": [1]}),
    "sharpmin a number": put("sharpmin", 3),
    "no param_groups": without("param_groups"),
    "param_groups None": put("param_groups", None),
    "param_groups a number": put("param_groups", 3),
    "param_groups a string": put("param_groups", "no"),
    "more groups": lambda state: {**state, "param_groups": state["param_groups"] * 2},
    "base nan": of_base("exp_avg", torch.tensor([math.nan]).double().expand(5, 4).clone()),
    "base one nan": of_base("exp_avg_sq", torch.eye(5, 4).double().where(torch.eye(5, 4) == 0, math.nan)),
    "base count nan": of_base("step", torch.tensor(math.nan)),
    "base shape": of_base("exp_avg", torch.zeros(4, 5).double()),
    "base flat": of_base("exp_avg_sq", torch.zeros(20).double()),
    "state a list": put("state", []),
    "lr nan": group("lr", math.nan),
    "betas nan": group("betas", (0.9, math.nan)),
    "a list": lambda state: [state],
    "None": lambda state: None,
}


@pytest.mark.parametrize("name", BAD)
def test_refused_before_anything_has_changed(name, bits):
    net, opt, closure = trained()
    saved = BAD[name](copy.deepcopy(opt.state_dict()))
    lists = (opt.param_groups, opt.param_groups[0], opt.base.state)
    was = bits(opt.state_dict())
    closure()
    opt.perturb()
    closure()
    opt.restore()  # a step that is on its way goes on, too
    grads = [p.grad.clone() for p in net.parameters()]
    memory = opt._passes.state.memory
    with pytest.raises((TypeError, ValueError), match="load_state_dict"):
        opt.load_state_dict(saved)
    assert bits(opt.state_dict()) == was
    assert all(a is b for a, b in zip(lists, (opt.param_groups, opt.param_groups[0], opt.base.state), strict=True))
    assert opt._passes.state.memory is memory
    assert opt._passes.groups.count() == 3
    opt.step()
    assert opt.last.stepped
    assert all(torch.equal(p.grad, g) for p, g in zip(net.parameters(), grads, strict=True))


def test_a_schedule_is_the_one_word_that_a_radius_may_be():
    _, opt, _ = trained()
    opt.load_state_dict(group("rho", "schedule")(copy.deepcopy(opt.state_dict())))
    assert opt.rho == 0.1


@pytest.mark.parametrize("geometry", [sm.L2(), sm.Elementwise(eta=1.0), sm.Layerwise(eta=1.0)], ids=repr)
@pytest.mark.parametrize("size", [1.5e-45, 3e-45, 1e-43, 1e-40, 1e-38, 1e-31, 1e-29, 1e-15, 1e15, 1e29, 1e31, 3e38])
def test_a_norm_that_float32_cannot_hold(size, geometry, path):
    w = nn.Parameter(torch.zeros(7))
    opt = sm.SAM(torch.optim.SGD([w], lr=0.0), rho=0.5, geometry=geometry)
    w.grad = torch.tensor([size, -size, 0.0, size, size, size, size])
    opt.perturb()
    moved = w.detach().double().norm().item()
    if path == "host" or 1e-16 < size < 1e16:
        assert moved == pytest.approx(0.5, rel=1e-6)
    assert opt.last.radius == pytest.approx(
        moved, rel=1e-6
    )  # an accelerator may call such a norm zero or infinite, and says so
    assert w[2] == 0
    opt.abort()


def test_a_sparse_gradient_of_a_tiny_norm():
    table = nn.Embedding(5, 3, sparse=True)
    was = table.weight.detach().clone()
    opt = sm.SAM(torch.optim.SGD(table.parameters(), lr=0.0), rho=0.5)
    (table(torch.tensor([1, 3])).sum() * 1e-44).backward()
    opt.perturb()
    assert (table.weight.detach() - was).double().norm().item() == pytest.approx(0.5, rel=1e-6)
    opt.abort()


OPTIONS = [{}, {"telemetry": True}, {"descent": sm.Mix(0.5)}, {"descent": sm.ClippedDifference()}, {"ascent": sm.Ema()}]
OPTIONS += [{"geometry": sm.LInf()}, {"geometry": sm.Elementwise()}, {"rounding": "stochastic"}, {"scope": "microbatch"}]


@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_a_default_device_reaches_nothing_of_a_step(options, dtype, sparse):
    ends = []
    for device in ("cpu", "meta"):
        torch.manual_seed(0)
        net = nn.Sequential(nn.Embedding(9, 4, sparse=sparse), nn.Linear(4, 3)).to(dtype)
        x, y = torch.arange(6), torch.tensor([0, 1, 2, 0, 1, 2])
        torch.set_default_device(device)
        try:
            opt = sm.SAM(torch.optim.SGD(net.parameters(), lr=0.1), rho=0.05, model=net, **options)
            probe = None if options.get("scope") else sm.watch(opt, every=1, block=2, mu=0.1)
            for _ in range(4):

                def closure(opt=opt, net=net, x=x, y=y):
                    opt.zero_grad()
                    loss = nn.functional.cross_entropy(net(x).float(), y)
                    loss.backward()
                    return loss

                opt.step(closure)
            report = opt.last
            if probe is not None:
                probe.close()
        finally:
            torch.set_default_device("cpu")
        ends.append(([p.detach() for p in net.parameters()], report))
    assert all(map(torch.equal, ends[0][0], ends[1][0]))
    assert ends[0][1] == ends[1][1]
