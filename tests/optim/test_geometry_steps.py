"""Geometries inside SAM: what the weights are at w + e, for dense, sparse and complex gradients."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import sharpmin as sm
from sharpmin.optim import L2, Context, Elementwise, Layerwise, LInf, Masked, matrices

RHO = 0.5


def large(w):
    return w.abs() > 1


def layer(w):
    return np.full(w.shape, np.sqrt((abs(w) ** 2).sum()))


def one(w):
    return np.ones(w.shape)


def euclidean(scale, mask=one):
    """rho T^2 a / ||T a||."""

    def move(w, a):
        t, a = scale(w), mask(w) * a
        return RHO * t**2 * a / np.sqrt((abs(t * a) ** 2).sum())

    return move


def maximum(mask=one):
    """rho a / |a|, and 0 for 0."""
    return lambda w, a: RHO * mask(w) * a / np.where(a == 0, 1, abs(a))


MOVES = {  # for a single matrix of weights
    "l2": (L2(), euclidean(one)),
    "linf": (LInf(), maximum()),
    "elementwise": (Elementwise(0.1), euclidean(lambda w: abs(w) + 0.1)),
    "elementwise-matrices": (Elementwise(0.1, matrices), euclidean(lambda w: abs(w) + 0.1)),
    "layerwise": (Layerwise(), euclidean(layer)),
    "masked": (Masked(large), euclidean(one, lambda w: abs(w) > 1)),
    "masked-linf": (Masked(large, LInf()), maximum(lambda w: abs(w) > 1)),
    "masked-bool-elementwise": (Masked(matrices, Elementwise(0.1)), euclidean(lambda w: abs(w) + 0.1)),
}
every = pytest.mark.parametrize("name", MOVES)


def displaced(weights, grads, geometry, rho=RHO):
    """The weights at w + e, and the optimizer."""
    for p, g in zip(weights, grads, strict=True):
        p.grad = g
    opt = sm.SAM(torch.optim.SGD(weights, lr=0.0), rho=rho, geometry=geometry)
    with opt.perturbed():
        return [p.detach().clone() for p in weights], opt


W = np.array([[3.0, -0.5], [0.25, -2.0], [1.5, 0.75], [-4.0, 1.25]])
G = np.array([[0.0, 0.0], [3.0, 1.0], [-2.0, 4.0], [0.0, 0.0]])


@every
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("coalesced", [True, False])
def test_sparse_gradients(*, path, name, dtype, coalesced, bits):
    """Rows of an embedding; repeated rows add up before anything else."""
    geometry, move = MOVES[name]
    p = nn.Parameter(torch.tensor(W, dtype=dtype))
    rows = torch.tensor([[1, 2]] if coalesced else [[2, 1, 2]])
    values = [G[1], G[2]] if coalesced else [G[2] - 7.0, G[1], np.full(2, 7.0)]
    g = torch.sparse_coo_tensor(rows, torch.tensor(np.array(values), dtype=dtype), (4, 2), check_invariants=True)
    was = bits(p)
    (inside,), opt = displaced([p], [g], geometry)
    assert inside.numpy() == pytest.approx(W + move(W, G), rel=1e-12 if dtype is torch.float64 else 1e-6)
    assert opt.last.radius == pytest.approx(RHO, rel=1e-6)
    assert bits(p) == was


@every
def test_complex_parameters(path, name, bits):
    geometry, move = MOVES[name]
    random = np.random.default_rng(3)
    w, g = (random.normal(size=(3, 2)) + 1j * random.normal(size=(3, 2)) for _ in range(2))
    g[1, 1] = 0
    p = nn.Parameter(torch.tensor(w))
    was = bits(p)
    (inside,), _ = displaced([p], [torch.tensor(g)], geometry)
    assert inside.numpy() == pytest.approx(w + move(w, g), rel=1e-12)
    assert bits(p) == was


@every
def test_conjugate_gradients_of_complex_parameters(door, name):
    """Of f = Re <w, c>, autograd hands out a gradient with the conjugate bit set."""
    geometry, move = MOVES[name]
    w, c = np.array([[2 - 1j, 0.5j], [1 + 1j, -3.0]]), np.array([[1j, 2.0], [-3.0, 1 - 4j]])
    p, other, visited = nn.Parameter(torch.tensor(w)), torch.tensor(c), []
    opt = sm.SAM(torch.optim.SGD([p], lr=0.1), rho=RHO, geometry=geometry)

    def backward():
        visited.append(p.detach().numpy().copy())
        loss = (p.conj() * other).real.sum()
        loss.backward()
        return loss

    door(opt, backward)
    assert visited[1] == pytest.approx(w + move(w, c), rel=1e-12)
    assert p.detach().numpy() == pytest.approx(w - 0.1 * c, rel=1e-12)


@every
def test_zero_gradients_move_nothing(path, door, name, bits):
    p, q = nn.Parameter(torch.randn(2, 3)), nn.Parameter(torch.randn(3))
    opt = sm.SAM(torch.optim.SGD([p, q], lr=0.1), rho=RHO, geometry=MOVES[name][0])
    was, visited = bits([p, q]), []

    def zero():
        visited.append(bits([p, q]))
        p.grad, q.grad = torch.zeros_like(p), torch.zeros_like(q)

    door(opt, zero)
    assert all(seen == was for seen in [*visited, bits([p, q])])
    assert (opt.last.stepped, opt.last.radius, opt.last.dual_norm) == (True, 0.0, 0.0)


def test_the_golden_step_of_asam(path, quadratic, door):
    f = quadratic()
    opt = sm.SAM(torch.optim.SGD([f.w], lr=0.1), rho=0.5, geometry=Elementwise(eta=0.0))
    door(opt, f)
    assert (f.visited[1] - f.visited[0]).tolist() == pytest.approx([1.37071732, 0.20306923], abs=1e-8)
    assert f.w.tolist() == pytest.approx([2.56292827, 0.51877231], abs=1e-8)


@given(st.floats(0.05, 20), st.integers(0, 99))
def test_asam_does_not_see_a_rescaling_of_the_layers(c, seed):
    """f(w1 w2) is the same function after w1 c, w2 / c; so e is (e1 c, e2 / c), and the loss at w + e the same."""
    torch.manual_seed(seed)
    start, x = [torch.randn(2, 3, dtype=torch.float64), torch.randn(3, dtype=torch.float64)], torch.randn(2).double()

    def moves(scales):
        w = [nn.Parameter(p * s) for p, s in zip(start, scales, strict=True)]
        grads = torch.autograd.grad(torch.tanh(x @ w[0] @ w[1]), w)
        inside, _ = displaced(w, grads, Elementwise(eta=0.0))
        return [i - p.detach() for i, p in zip(inside, w, strict=True)]

    for e, scaled, s in zip(moves((1, 1)), moves((c, 1 / c)), (c, 1 / c), strict=True):
        assert torch.allclose(scaled, e * s, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(("eta", "expected"), [(0.0, [2.0 + RHO * 4 * 3 / 6, 0.0]), (0.5, None)])
def test_elementwise_with_weights_of_zero(path, eta, expected):
    """T = eta for them: movable with eta > 0, stuck without."""
    w, g = np.array([2.0, 0.0]), np.array([3.0, 4.0])
    (inside,), opt = displaced([nn.Parameter(torch.tensor(w))], [torch.tensor(g)], Elementwise(eta))
    t = abs(w) + eta
    assert inside.tolist() == pytest.approx(expected or list(w + RHO * t**2 * g / np.linalg.norm(t * g)), rel=1e-12)
    assert opt.last.radius == pytest.approx(RHO)


@pytest.mark.parametrize("geometry", [Elementwise(0.0), Layerwise(), Masked(large)], ids=lambda g: type(g).__name__)
def test_where_no_weight_can_move_the_step_is_the_base_s(path, door, geometry):
    p = nn.Parameter(torch.zeros(3, dtype=torch.float64))
    opt = sm.SAM(torch.optim.SGD([p], lr=0.5), rho=RHO, geometry=geometry)
    visited = []

    def backward():
        visited.append(p.detach().clone())
        p.grad = torch.ones_like(p)

    door(opt, backward)
    assert all(v.tolist() == [0.0] * 3 for v in visited)
    assert p.tolist() == [-0.5] * 3
    assert opt.last.radius == 0.0


@pytest.mark.parametrize("geometry", [L2(), LInf(), Elementwise(0.0), Layerwise(), Layerwise(0.5)], ids=str)
def test_the_radius_over_groups_of_different_rho(path, geometry):
    """A bias of zeros, as layers start with, among them: 0 / 0 is 0 in the norm."""
    ps = [nn.Parameter(torch.tensor(v, dtype=torch.float64)) for v in ([[2.0, -1.0]], [0.0, 0.0], [4.0])]
    for p in ps:
        p.grad = torch.arange(1.0, 1 + p.numel(), dtype=torch.float64).reshape(p.shape)
    groups = [{"params": ps[:2]}, {"params": ps[2:], "rho": 1.0}]
    opt = sm.SAM(torch.optim.SGD(groups, lr=0.0), rho=RHO, geometry=geometry)
    was = [p.detach().clone() for p in ps]
    total = geometry.at(was, [p.grad for p in ps], Context()).measure()
    v = list(geometry.at(was, [p.grad for p in ps], Context()).steepest(total))
    with opt.perturbed():
        for p, w, s, rho in zip(ps, was, v, (RHO, RHO, 1.0), strict=True):
            assert torch.allclose(p.detach(), w + rho * s, rtol=1e-12, atol=0)
    parts = [
        float(geometry.at([w], [rho * s], Context()).norm([w], [rho * s]))
        for w, s, rho in zip(was, v, (RHO, RHO, 1.0), strict=True)
    ]
    norm = max(parts) if isinstance(geometry, LInf) else sum(n**2 for n in parts) ** 0.5
    assert opt.last.radius == pytest.approx(norm, rel=1e-12)


FAR = [
    (kind, size, power)
    for kind, size, power in itertools.product(["l2", "elementwise", "layerwise"], [-6, 0, 6], range(-36, 37, 6))
    if kind == "l2" or abs(power - size) <= 36  # else float32 holds no such gradient
]


@pytest.mark.parametrize(("kind", "size", "power"), FAR)
def test_steps_where_squares_leave_float32(kind, size, power):
    """Weights of 10^size and gradients a for which T a is 10^power: T^2 a may be far beyond, e = rho T^2 a / ||T a|| is not."""
    w, unit = 10.0**size * np.array([1.0, -2.0, 0.5]), np.array([3.0, 1.0, -2.0])
    geometry, scale = {"l2": (L2(), one), "elementwise": (Elementwise(0.0), abs), "layerwise": (Layerwise(), layer)}[kind]
    a = 10.0**power * unit / scale(w)
    p, g = (torch.tensor(x, dtype=torch.float32) for x in (w, a))
    rho = 0.5 if kind != "l2" else 0.5 * 10.0**size
    (inside,), opt = displaced([nn.Parameter(p)], [g], geometry, rho)
    expected = rho * euclidean(scale)(w, a) / RHO
    assert np.allclose(inside.double().numpy() - p.double().numpy(), expected, rtol=0, atol=1e-6 * np.abs(expected).max())
    assert opt.last.dual_norm == pytest.approx(np.sqrt(((scale(w) * a) ** 2).sum()), rel=1e-6)
