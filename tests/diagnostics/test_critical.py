"""Critical sharpness against closed forms and against roots of the loss along the line."""

import math

import numpy as np
import pytest
import torch
from scipy.optimize import brentq
from tests.diagnostics.own_loss import ONES, Vector, of

from sharpmin.diagnostics import critical_sharpness


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("own", [False, True], ids=["gradient", "direction"])
def test_on_a_quadratic_it_is_the_curvature_along_the_direction(seed, own):
    """f(w - s u) = f - s <g, u> + s^2 u'Hu / 2 is back at f for s = 2 <g, u> / u'Hu."""
    rng = np.random.default_rng(seed)
    a, w, b = rng.standard_normal((6, 6)), rng.standard_normal(6), rng.standard_normal(6)
    h = a @ a.T + 0.1 * np.eye(6)
    g = h @ w + b
    u = g + 0.3 * rng.standard_normal(6) if own else g
    matrix, shift = torch.tensor(h), torch.tensor(b)
    loss = of(lambda x: x @ matrix @ x / 2 + shift @ x)
    found = critical_sharpness(Vector(w), loss, ONES, direction=[torch.tensor(u)] if own else None)
    assert found.value == pytest.approx(u @ h @ u / (g @ u), rel=1e-9)
    assert found.lr == pytest.approx(2 / found.value)
    assert found.passes <= 4
    assert found.bracket[0] <= found.lr <= found.bracket[1]


FUNCTIONS = {
    "quartic": (lambda x: (x**4).sum() / 4, [1.5]),
    "logistic": (lambda x: torch.log1p(torch.exp(-3 * x)).sum() + 0.05 * (x**2).sum(), [-1.0]),
    "cosine": (lambda x: (1 - torch.cos(x)).sum(), [0.8]),
    "two": (lambda x: x[0] ** 4 + 0.5 * x[1] ** 2 + 0.1 * torch.exp(x[0]), [0.7, -1.2]),
    "walled": (lambda x: -torch.log(1 - x).sum() - torch.log(1 + x).sum(), [0.9]),  # no number beyond the walls
}


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_it_brackets_the_first_crossing(name, scale):
    f, start = FUNCTIONS[name]
    w = torch.tensor(start, dtype=torch.float64, requires_grad=True)
    (g,) = torch.autograd.grad(f(w), w)
    u = scale * g

    def rise(step):
        there = float(f(w.detach() - step * u) - f(w.detach()))
        return there if math.isfinite(there) else math.inf

    steps = np.geomspace(1e-4, 1e3, 4000) / scale
    beyond = next(i for i, step in enumerate(steps) if rise(step) > 0)
    true = brentq(lambda step: min(rise(step), 1e9), steps[beyond - 1], steps[beyond])
    found = critical_sharpness(Vector(start), of(f), ONES, direction=[u], passes=30, tol=1e-6)
    assert found.bracket[0] * (1 - 1e-9) <= true <= found.bracket[1] * (1 + 1e-9)
    assert found.value == pytest.approx(2 / true, rel=1e-5)
    few = critical_sharpness(Vector(start), of(f), ONES, direction=[u])
    assert few.passes <= 7
    assert 0.8 < few.value * true / 2 < 1.25


def test_it_looks_by_forward_passes_alone():
    calls = []

    class Once(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            calls.append("forward")
            return x * x

        @staticmethod
        @torch.autograd.function.once_differentiable
        def backward(ctx, grad):
            calls.append("backward")
            return 2.0 * grad

    critical_sharpness(Vector([1.0]), of(lambda x: Once.apply(x).sum()), ONES)
    assert calls.count("backward") == 1
    assert 2 <= calls.count("forward") <= 7


def linear(x):
    return x.sum()


BAD = [
    ({"passes": 1}, ValueError, "passes=1; passes must be an integer >= 2"),
    ({"tol": 0.0}, ValueError, "tol=0.0; tol must be a finite number > 0"),
    ({"direction": [torch.ones(3)]}, ValueError, "direction has the shapes"),
    ({"direction": [-torch.ones(2, dtype=torch.float64)]}, ValueError, "so that w - lr u leads down first"),
]


@pytest.mark.parametrize(("options", "error", "words"), BAD, ids=[str(b[0]) for b in BAD])
def test_bad_arguments(options, error, words):
    with pytest.raises(error, match=words):
        critical_sharpness(Vector([1.0, 2.0]), of(lambda x: (x * x).sum()), ONES, **options)


def test_a_loss_that_only_falls_has_no_critical_step():
    found = critical_sharpness(Vector([1.0]), of(linear), ONES)
    assert found.bracket[1] == math.inf
    assert found.value <= 2 / found.bracket[0]
