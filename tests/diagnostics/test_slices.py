"""The loss along directions and the shares of layers, against quadratics by hand, and their figures."""

import numpy as np
import pytest
import torch
from tests.diagnostics.own_loss import ONES, Vector, of
from torch import nn

import sharpmin as sm
from sharpmin.diagnostics import layer_shares, loss_slice
from sharpmin.report import layer_bars, slice_figure


def quadratic(seed):
    rng = np.random.default_rng(seed)
    a, w, b = rng.standard_normal((6, 6)), rng.standard_normal(6), rng.standard_normal(6)
    h = (a + a.T) / 2
    matrix, shift = torch.tensor(h), torch.tensor(b)
    return h, w, h @ w + b, Vector(w), of(lambda x: x @ matrix @ x / 2 + shift @ x)


def rise(h, g, e):
    """L(w + e) - L(w)."""
    return g @ e + e @ h @ e / 2


@pytest.mark.parametrize("seed", range(3))
def test_along_the_ascent(seed):
    h, _, g, model, loss = quadratic(seed)
    found = loss_slice(model, loss, ONES, reach=0.3, points=7)
    unit = g / np.linalg.norm(g)
    assert found.at == pytest.approx([-0.3, -0.2, -0.1, 0.0, 0.1, 0.2, 0.3])
    assert np.subtract(found.losses, found.losses[3]) == pytest.approx([rise(h, g, a * unit) for a in found.at])
    assert (found.along, found.cosine) == (("ascent",), None)


@pytest.mark.parametrize("seed", range(3))
def test_in_the_plane_of_ascent_and_top_eigenvector(seed):
    h, _, g, model, loss = quadratic(seed)
    found = loss_slice(model, loss, ONES, along=("ascent", "top eigenvector"), reach=0.2, points=3)
    unit, top = g / np.linalg.norm(g), np.linalg.eigh(h)[1][:, -1]
    top = top if top @ g >= 0 else -top
    wanted = [[rise(h, g, a * unit + b * top) for b in found.at] for a in found.at]
    assert np.subtract(found.losses, found.losses[1][1]) == pytest.approx(np.array(wanted))
    assert found.cosine == pytest.approx(unit @ top)


def test_along_a_direction_of_ones_own_in_another_norm():
    h, _, g, model, loss = quadratic(0)
    u = np.arange(6.0)
    found = loss_slice(model, loss, ONES, along=[torch.tensor(u)], reach=1.0, points=3)
    assert found.losses[2] - found.losses[1] == pytest.approx(rise(h, g, u))
    found = loss_slice(model, loss, ONES, geometry=sm.LInf(), reach=1.0, points=3)
    assert found.losses[2] - found.losses[1] == pytest.approx(rise(h, g, np.sign(g)))


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"along": "steepest"}, 'a name must be "ascent" or "top eigenvector"'),
        ({"along": ("ascent", "up")}, "along='up'"),
        ({"along": [torch.ones(3)]}, "direction has the shapes"),
        ({"along": [torch.zeros(6)]}, "0 everywhere"),
        ({"points": 4}, "points must be odd"),
        ({"points": 1}, "at least 3"),
        ({"reach": 0.0}, "reach"),
    ],
)
def test_refusals(settings, words):
    *_, model, loss = quadratic(0)
    with pytest.raises(ValueError, match=words):
        loss_slice(model, loss, ONES, **settings)


def test_a_direction_that_is_none():
    *_, model, loss = quadratic(0)
    with pytest.raises(TypeError, match="along=int"):
        loss_slice(model, loss, ONES, along=3)


def test_no_gradient_has_no_direction():
    model, flat = Vector(np.zeros(2)), of(lambda x: (x**2).sum())
    for probe in (loss_slice, lambda *a: layer_shares(*a, rho=0.1)):
        with pytest.raises(ValueError, match="no direction of ascent"):
            probe(model, flat, ONES)


class Three(nn.Module):
    """Parameters of several shapes, one of them frozen."""

    def __init__(self, seed):
        super().__init__()
        rng = torch.Generator().manual_seed(seed)
        options = {"generator": rng, "dtype": torch.float64}
        self.a = nn.Parameter(torch.randn(2, 2, **options))
        self.b = nn.Parameter(torch.randn(3, **options))
        self.still = nn.Parameter(torch.ones(2, dtype=torch.float64), requires_grad=False)

    def forward(self, x):
        return self.a.square().sum() + 3 * self.b.pow(4).sum() + self.a.sum() * self.b.sum() + self.still.sum()


GEOMETRIES = [sm.L2(), sm.LInf(), sm.Elementwise(0.01), sm.Layerwise()]


@pytest.mark.parametrize("geometry", GEOMETRIES, ids=lambda g: type(g).__name__)
@pytest.mark.parametrize("seed", range(3))
def test_shares_are_those_of_a_real_step(geometry, seed):
    """Of e and D that a SAM of this geometry makes, read off its weights and gradients."""
    model, rho = Three(seed), 0.2
    found = layer_shares(model, lambda out, _: out, ONES, rho=rho, geometry=geometry)
    held = [model.a, model.b]
    opt = sm.SAM(torch.optim.SGD(held, lr=0.1), rho=rho, geometry=geometry)
    model(None).backward()
    w, g = [p.detach().clone() for p in held], [p.grad.clone() for p in held]
    with opt.perturbed():
        e = [p.detach() - was for p, was in zip(held, w, strict=True)]
        model(None).backward()
        d = [p.grad - was for p, was in zip(held, g, strict=True)]
    for shares, vectors in ((found.e, e), (found.d, d)):
        squares = np.array([v.square().sum().item() for v in vectors])
        assert shares == pytest.approx(squares / squares.sum(), rel=1e-9)
    assert (found.names, found.entries) == (("a", "b"), (4, 3))


def test_a_linear_loss_changes_nothing():
    found = layer_shares(Vector(np.ones(2)), of(lambda x: x.sum()), ONES, rho=0.1)
    assert (found.e, found.d) == ((1.0,), (0.0,))


def test_the_figures_draw_what_was_found():
    *_, model, loss = quadratic(1)
    one = loss_slice(model, loss, ONES, points=5)
    drawn = slice_figure(one)
    assert (list(drawn.data[0].x), list(drawn.data[0].y)) == (list(one.at), list(one.losses))
    assert list(drawn.data[1].y) == [one.losses[2]]
    two = loss_slice(model, loss, ONES, along=("ascent", [torch.arange(6.0)]), points=3)
    drawn = slice_figure(two)
    assert np.array_equal(np.array(drawn.data[0].z).T, np.array(two.losses))
    assert (drawn.layout.xaxis.title.text, drawn.layout.yaxis.title.text) == ("along the ascent", "along a direction of yours")
    shares = layer_shares(Three(0), lambda out, _: out, ONES, rho=0.1)
    drawn = layer_bars(shares)
    assert [(bar.name, bar.x, bar.y) for bar in drawn.data] == [
        ("of e", shares.e, shares.names),
        ("of D", shares.d, shares.names),
    ]
