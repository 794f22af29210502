"""Two independent implementations certify each other: `sharpmin.SAM` in torch against `theory.simulate` in NumPy.

The torch side knows only losses: their gradients come from autograd. Same draws, same schedules, as the same objects.
"""

import numpy as np
import pytest
import torch

import sharpmin as sm
from sharpmin import rho as schedules
from sharpmin.theory import InverseTime, problems, samples, simulate

P = problems()
STEPS = 120


def hinge_loss(f, sample):
    """The antiderivative of one sample's hinge sum; `None` is f itself."""
    h = f.mean if sample is None else f.components[sample]

    def loss(x):
        hinges = [c / 2 * torch.relu(x - t) ** 2 for t, c in h.hinges]
        return h.a * x + h.b / 2 * x * x + sum(hinges, torch.zeros((), dtype=torch.float64))

    return loss


def quadratic_loss(f, sample):
    lam = torch.tensor(f.curvatures, dtype=torch.float64)
    return lambda x: (lam * x * x).sum() / 2


def product_loss(f, sample):
    return lambda x: (x[0] * x[1] - 1) ** 2


def logcosh_loss(f, sample):
    return lambda x: ((f.high - f.low) * torch.log(torch.cosh(x)) + f.low * x * x / 2).sum()


def digits_loss(f, rows):
    rows = np.arange(len(f.labels)) if rows is None else rows
    features, labels = torch.as_tensor(f.features[rows]), torch.as_tensor(f.labels[rows])

    def loss(x):
        return torch.nn.functional.cross_entropy(features @ x.view(64, 10), labels) + f.l2 / 2 * (x * x).sum()

    return loss


def train(f, make_loss, *, method, lr, rho, steps, x0, seed, door):
    """x_0 ... x_steps of SAM around plain SGD, through one of its doors."""
    x = torch.nn.Parameter(torch.tensor(x0, dtype=torch.float64))
    radius = schedules.Unnormalized(rho) if "usam" in method else rho
    opt = sm.SAM(torch.optim.SGD([x], lr=1.0), rho=0.0 if method in ("gd", "sgd") else radius)
    path = [x.detach().clone()]
    for t in range(steps):
        opt.param_groups[0]["lr"] = lr(t) if callable(lr) else lr
        first, second = (None, None) if method in ("gd", "sam", "usam") else samples(f, seed, t)
        second = second if method[0] == "n" else first
        opt.zero_grad()
        make_loss(f, first)(x).backward()
        if not opt.needs_second_pass:
            pass  # a block that ran would count, and n-SAM descend with its second sample
        elif door == "block":
            with opt.perturbed():
                make_loss(f, second)(x).backward()
        else:
            opt.perturb()
            make_loss(f, second)(x).backward()
            opt.restore()
        opt.step()
        path.append(x.detach().clone())
    return torch.stack(path).numpy()


def compare(f, make_loss, tolerance, *, door="block", steps=STEPS, **k):
    lab = simulate(f, steps=steps, seeds=k["seed"], record=range(steps + 1), **{n: k[n] for n in ("method", "lr", "rho", "x0")})
    ours = train(f, make_loss, steps=steps, door=door, **k)
    theirs = lab.x.values[:, 0]
    assert np.isfinite(ours).all()
    assert np.abs(ours - theirs).max() <= tolerance * max(1.0, np.abs(theirs).max())


ONE_D = {
    "quadratic": (P["quadratic"](curvatures=[2.0]), 0.7313),
    "trap": (P["trap"](theta=0.125, beta=2.0, rho=0.5), 0.2),
    "e1": (P["e1"](beta=1.0, mu=0.1, rho=1.0), 3.1),
    "e3": (P["e3"](p=0.1, rho=0.5), 1.3),
    "e5": (P["e5"](theta=0.25, s=0.2, beta=2.0, rho=0.5), 0.05),
}
METHODS = ["gd", "sgd", "sam", "usam", "m-sam", "n-sam", "m-usam", "n-usam"]
RADII = [
    0.3,
    schedules.Cosine(0.3, steps=100),
    schedules.InverseSqrt(0.3),
    schedules.ProportionalToLR(0.3, lr=0.1, power=0.5),
    schedules.Every(0.3, k=3),
    schedules.Tail(0.3, start=40),
    schedules.Ramp(0.3, start=20, stop=60),
    schedules.Until(0.3, stop=40),
    schedules.Capped(0.3, c=0.4),
    schedules.Unnormalized(0.3),
    schedules.Every(schedules.Capped(schedules.InverseSqrt(0.3), c=0.4), k=2),
]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", ONE_D)
def test_scalars_in_every_method(name, method):
    f, x0 = ONE_D[name]
    compare(f, hinge_loss, 1e-12, method=method, lr=0.13, rho=0.3, x0=x0, seed=7)


@pytest.mark.parametrize("rho", RADII, ids=repr)
@pytest.mark.parametrize("method", ["sam", "m-sam", "n-sam"])
def test_scalars_under_every_schedule(method, rho):
    f, x0 = ONE_D["e1"]
    lr = InverseTime(0.4, 20.0)
    compare(f, hinge_loss, 1e-12, method=method, lr=lr, rho=rho, x0=x0, seed=3, door="raw")


def test_the_table_has_every_schedule():
    """But for those that remember, which the laboratory refuses: tests/core/test_gate.py."""
    kinds = [c for c in vars(schedules).values() if isinstance(c, type) and issubclass(c, schedules.RhoSchedule)]
    kinds = [c for c in kinds if not c.remembers]
    assert {type(rho) for rho in RADII} | {float} == {*kinds, float} - {schedules.RhoSchedule, schedules.Constant}


VECTORS = {
    "quadratic": (P["quadratic"](curvatures=[0.5, 1.0, 4.0]), quadratic_loss, [1.0, -2.0, 0.5]),
    "product": (P["product"](), product_loss, [2.0, 0.3]),
    "logcosh": (P["logcosh"](beta=2.0, mu=0.1, dim=3), logcosh_loss, [1.0, -2.0, 0.5]),
}


@pytest.mark.parametrize("method", ["gd", "sam", "usam"])
@pytest.mark.parametrize("name", VECTORS)
def test_vectors(name, method):
    f, make_loss, x0 = VECTORS[name]
    compare(f, make_loss, 1e-9, method=method, lr=0.05, rho=0.1, x0=x0, seed=0)


@pytest.mark.parametrize("method", ["sgd", "sam", "m-sam", "n-sam", "m-usam", "n-usam"])
def test_real_data(method):
    f = P["digits"]()
    compare(f, digits_loss, 1e-9, method=method, lr=0.1, rho=0.5, x0=np.zeros(640), seed=5, steps=40)
