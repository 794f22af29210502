"""The ball of every geometry: points drawn and points projected lie in it, and projection is what quadratic programs say."""

import numpy as np
import pytest
import torch
from scipy.optimize import minimize

from sharpmin.diagnostics._sharpness.ball import Ball
from sharpmin.optim import L2, Elementwise, Layerwise, LInf, Masked


def mask(w):
    return w != 2


GEOMETRIES = [L2(), LInf(), Elementwise(0.1), Layerwise(0.1), Masked(mask, L2()), Masked(mask, LInf())]
GEOMETRIES += [Masked(mask, Elementwise(0.1))]
NAMES = ["L2", "LInf", "Elementwise", "Layerwise", "masked L2", "masked LInf", "masked Elementwise"]  # without addresses
ANCHOR = [torch.tensor([[1.0, 2.0], [-3.0, 0.5]], dtype=torch.float64), torch.tensor([0.0, 2.0], dtype=torch.float64)]
RHO = 0.7


def size(geometry, e):
    """The norm, written down again on one vector."""
    w, e = (torch.cat([t.flatten() for t in tensors]).numpy() for tensors in (ANCHOR, e))
    if isinstance(geometry, Masked):
        assert (e[w == 2] == 0).all()
        return size(geometry.inner, [torch.from_numpy(e)]) if isinstance(geometry.inner, (L2, LInf)) else scaled(e, w)
    if isinstance(geometry, LInf):
        return np.abs(e).max()
    if isinstance(geometry, Layerwise):
        return np.hypot(np.linalg.norm(e[:4]) / (np.linalg.norm(w[:4]) + 0.1), np.linalg.norm(e[4:]) / 2.1)
    return scaled(e, w) if isinstance(geometry, Elementwise) else np.linalg.norm(e)


def scaled(e, w):
    return np.linalg.norm(e / (np.abs(w) + 0.1))


@pytest.mark.parametrize("geometry", GEOMETRIES, ids=NAMES)
def test_random_points_fill_the_ball(geometry):
    ball, generator = Ball(geometry, ANCHOR, RHO), torch.Generator().manual_seed(0)
    sizes = [size(geometry, ball.random(generator)) for _ in range(200)]
    assert 0 < min(sizes) < 0.05 * RHO
    assert 0.95 * RHO < max(sizes) <= RHO * (1 + 1e-12)
    free = torch.cat([mask(w).flatten() if isinstance(geometry, Masked) else torch.ones(w.numel()) for w in ANCHOR])
    assert torch.equal(torch.cat([e.flatten() for e in ball.random(generator)]) != 0, free.bool())


@pytest.mark.parametrize("geometry", GEOMETRIES, ids=NAMES)
def test_projected_points_are_in_the_ball_and_inner_ones_stay(geometry):
    ball, generator = Ball(geometry, ANCHOR, RHO), torch.Generator().manual_seed(0)
    inside = ball.random(generator)
    assert all(torch.equal(a, b) for a, b in zip(ball.project(inside), inside, strict=True))
    outside = [5 * RHO / size(geometry, inside) * e for e in inside]
    assert size(geometry, ball.project(outside)) == pytest.approx(RHO, rel=1e-12)


@pytest.mark.parametrize("geometry", [L2(), LInf()], ids=repr)
def test_the_projection_is_the_nearest_point(geometry):
    out = [torch.tensor([[1.0, 0.3], [-0.2, 0.1]], dtype=torch.float64), torch.tensor([-0.9, 0.6], dtype=torch.float64)]
    target = torch.cat([t.flatten() for t in out]).numpy()
    box = [(-RHO, RHO)] * 6 if isinstance(geometry, LInf) else None
    inside = [] if box else [{"type": "ineq", "fun": lambda e: RHO**2 - e @ e}]
    best = minimize(lambda e: ((e - target) ** 2).sum(), np.zeros(6), bounds=box, constraints=inside, method="SLSQP", tol=1e-12)
    found = torch.cat([t.flatten() for t in Ball(geometry, ANCHOR, RHO).project(out)]).numpy()
    assert np.allclose(found, best.x, rtol=0, atol=1e-5)
