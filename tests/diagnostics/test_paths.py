"""The two paths of what SAM changes: against Jacobians and second derivatives by torch.func, and models that have one path."""

import math

import pytest
import torch
from torch import nn
from torch.func import functional_call, jacrev
from torch.nn.functional import cross_entropy

import sharpmin as sm
from sharpmin.diagnostics import path_shares


def net():
    return nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 3)).double()


def data(*sizes):
    rng = torch.Generator().manual_seed(3)
    return [(torch.randn(n, 3, generator=rng).double(), torch.randint(3, (n,), generator=rng)) for n in sizes]


def flat(model):
    """The logits of all samples as a function of one vector of weights."""
    shapes = {name: p.shape for name, p in model.named_parameters()}

    def logits(w, x):
        pieces = w.split([math.prod(s) for s in shapes.values()])
        weights = {name: piece.reshape(s) for (name, s), piece in zip(shapes.items(), pieces, strict=True)}
        return functional_call(model, weights, (x,))

    return logits, torch.cat([p.detach().flatten() for p in model.parameters()])


def paths_by_jacobians(model, batches, rho):
    x, y = (torch.cat(part) for part in zip(*batches, strict=True))
    logits, w = flat(model)

    def at(w):
        z = logits(w, x)
        return jacrev(logits)(w, x).reshape(-1, len(w)), jacrev(lambda z: cross_entropy(z, y))(z).flatten()

    jacobian, v = at(w)
    g = jacobian.T @ v
    moved, slope = at(w + rho * g / g.norm())
    return (moved - jacobian).T @ v, moved.T @ (slope - v), moved.T @ slope - g


@pytest.mark.parametrize("sizes", [(6,), (4, 2, 3)])
@pytest.mark.parametrize("rho", [0.01, 1.0])
def test_the_parts_are_those_of_the_jacobians(sizes, rho):
    model = net()
    functional, logit, whole = paths_by_jacobians(model, data(*sizes), rho)
    torch.testing.assert_close(functional + logit, whole, rtol=1e-12, atol=1e-14)
    found = path_shares(model, cross_entropy, data(*sizes), rho=rho)
    assert found.functional == pytest.approx((functional @ whole / (whole @ whole)).item(), rel=1e-9)
    assert found.logit == pytest.approx((logit @ whole / (whole @ whole)).item(), rel=1e-9)
    assert found.functional + found.logit == 1.0
    assert found.functional_norm == pytest.approx(functional.norm().item(), rel=1e-9)
    assert found.logit_norm == pytest.approx(logit.norm().item(), rel=1e-9)
    assert found.norm == pytest.approx(whole.norm().item(), rel=1e-9)
    assert found.cosine == pytest.approx(torch.cosine_similarity(functional, logit, 0).item(), rel=1e-9)
    assert 0.01 < abs(found.functional) < 0.99


def test_for_small_rho_the_logit_path_is_the_gauss_newton_part():
    model, ((x, y),), rho = net(), data(6), 1e-5
    logits, w = flat(model)
    g = jacrev(lambda w: cross_entropy(logits(w, x), y))(w)
    e = rho * g / g.norm()
    jacobian = jacrev(logits)(w, x).reshape(-1, len(w))
    of_loss = jacrev(jacrev(lambda z: cross_entropy(z.reshape(6, 3), y)))(logits(w, x).flatten())
    gauss_newton = jacobian.T @ of_loss @ jacobian @ e
    whole = jacrev(jacrev(lambda w: cross_entropy(logits(w, x), y)))(w) @ e
    found = path_shares(model, cross_entropy, [(x, y)], rho=rho)
    assert found.logit == pytest.approx((gauss_newton @ whole / (whole @ whole)).item(), rel=1e-3)


def test_a_linear_model_has_the_logit_path_alone():
    found = path_shares(nn.Linear(3, 3).double(), cross_entropy, data(6, 4), rho=0.5)
    assert found.functional == pytest.approx(0.0, abs=1e-12)
    assert found.functional_norm < 1e-15
    assert found.logit == pytest.approx(1.0, abs=1e-12)


def test_a_loss_that_is_linear_in_the_logits_has_the_functional_path_alone():
    found = path_shares(net(), lambda z, y: z[:, 0].mean(), data(6, 4), rho=0.5)
    assert (found.functional, found.logit, found.logit_norm, found.cosine) == (1.0, 0.0, 0.0, 0.0)


def test_the_functional_loss_descends_along_the_functional_path():
    """One step of SGD with lr 1 moves by g + F."""
    model, ((x, y),), rho = net(), data(6), 0.3
    functional, _, _ = paths_by_jacobians(model, [(x, y)], rho)
    found = path_shares(model, cross_entropy, [(x, y)], rho=rho)
    _, w = flat(model)
    opt = sm.SAM(torch.optim.SGD(model.parameters(), lr=1.0), rho=rho)
    loss_fn = sm.FunctionalLoss(opt, cross_entropy)
    with opt.clean():
        loss_fn(model(x), y).backward()
    g = torch.cat([p.grad.flatten() for p in model.parameters()])
    with opt.perturbed():
        loss_fn(model(x), y).backward()
    opt.step()
    torch.testing.assert_close(w - flat(model)[1], g + functional, rtol=1e-10, atol=1e-12)
    assert found.functional_norm == pytest.approx(functional.norm().item(), rel=1e-9)


class Output:
    def __init__(self, logits):
        self.logits = logits


class Wrapped(nn.Module):
    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, x):
        return Output(self.inner(x))


def test_a_model_may_return_something_with_logits():
    model = net()
    assert path_shares(Wrapped(model), cross_entropy, data(6), rho=0.1) == path_shares(model, cross_entropy, data(6), rho=0.1)


class Pair(Wrapped):
    def forward(self, x):
        return self.inner(x), x


REFUSED = {
    "no logits": (Pair, cross_entropy, TypeError, "returned a tuple"),
    "no slope": (lambda m: m, lambda z, y: 0.0 * z.sum(), ValueError, "no direction of ascent"),
    "no mean": (lambda m: m, lambda z, y: z.sum(1), TypeError, "shape \\(6,\\)"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused(name):
    wrap, loss_fn, error, match = REFUSED[name]
    model = net()
    was = [p.detach().clone() for p in model.parameters()]
    with pytest.raises(error, match=match):
        path_shares(wrap(model), loss_fn, data(6), rho=0.1)
    with pytest.raises(ValueError, match="rho"):
        path_shares(model, cross_entropy, data(6), rho=0.0)
    assert all(map(torch.equal, was, model.parameters()))
