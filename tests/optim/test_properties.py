"""Properties over arbitrary weights, gradients and shapes."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import sharpmin as sm
from sharpmin.optim import L2, Context

WIDTH = {torch.float16: 16, torch.bfloat16: 32, torch.float32: 32, torch.float64: 64}
SHAPES = st.lists(st.integers(0, 3), max_size=3).map(tuple)


@st.composite
def tensors(draw, dtype, shape, *, finite):
    floats = st.floats(width=WIDTH[dtype], allow_nan=not finite, allow_infinity=not finite)
    n = math.prod(shape)
    values = torch.tensor(draw(st.lists(floats, min_size=n, max_size=n)), dtype=torch.float64).to(dtype).reshape(shape)
    return torch.where(torch.isfinite(values), values, 0.0).to(dtype) if finite else values


@st.composite
def problems(draw):
    """Weights of any value, nan and inf included, and finite gradients for some of them."""
    pairs = []
    for _ in range(draw(st.integers(1, 3))):
        dtype, shape = draw(st.sampled_from(list(WIDTH))), draw(SHAPES)
        weight = nn.Parameter(draw(tensors(dtype, shape, finite=False)))
        gradient = draw(st.none() | tensors(dtype, shape, finite=True))
        pairs.append((weight, gradient))
    return pairs


@pytest.mark.filterwarnings("ignore:SAM. only")
@given(problems().filter(lambda pairs: any(g is not None for _, g in pairs)), st.floats(0, 1e3), st.booleans())
def test_restore_is_exact_whatever_the_floats(problem, rho, fails):
    weights = [w for w, _ in problem]
    was = [raw(w) for w in weights]
    for w, g in problem:
        w.grad = g
    opt = sm.SAM(torch.optim.SGD(weights, lr=0.0), rho=rho)
    if fails:
        with pytest.raises(ValueError, match="boom"), opt.perturbed():
            raise ValueError("boom")
    else:
        with opt.perturbed():
            pass
    assert [raw(w) for w in weights] == was


def raw(t):
    """The bits."""
    return t.detach().contiguous().reshape(-1).view(torch.uint8).tolist()


VECTORS = st.lists(st.floats(-1e6, 1e6).filter(lambda x: x == 0 or abs(x) > 1e-6), min_size=1, max_size=12)


def displacement(groups):
    """e, flat, for gradients in nested lists: groups of parameters of numbers."""
    params = [[nn.Parameter(torch.zeros(len(g), dtype=torch.float64)) for g in group] for group in groups]
    for group, gradients in zip(params, groups, strict=True):
        for p, g in zip(group, gradients, strict=True):
            p.grad = torch.tensor(g, dtype=torch.float64)
    opt = sm.SAM(torch.optim.SGD([{"params": group} for group in params], lr=0.1), rho=0.5)
    with opt.perturbed():
        return torch.cat([p.detach().clone() for group in params for p in group])


@given(VECTORS, st.data())
def test_e_does_not_depend_on_how_the_weights_are_split(vector, data):
    cuts = sorted(data.draw(st.lists(st.integers(0, len(vector)), max_size=4)))
    pieces = [vector[i:j] for i, j in zip([0, *cuts], [*cuts, len(vector)], strict=True)]
    whole = displacement([[vector]])
    assert torch.allclose(displacement([pieces]), whole, rtol=1e-12, atol=0)
    assert torch.allclose(displacement([[piece] for piece in pieces]), whole, rtol=1e-12, atol=0)


@given(VECTORS)
def test_e_has_length_rho_and_the_direction_of_g(vector):
    e, g = displacement([[vector]]), torch.tensor(vector, dtype=torch.float64)
    norm = g.norm().item()
    assert e.norm().item() == pytest.approx(0.5 if norm else 0.0, rel=1e-12)
    assert (e @ g).item() == pytest.approx(0.5 * norm, rel=1e-12)


@given(VECTORS.filter(any))
def test_l2_is_the_geometry_that_it_says(vector):
    """||steepest|| = 1, <g, steepest> = dual norm, and measure is additive."""
    g, geometry = torch.tensor(vector, dtype=torch.float64), L2()
    total = geometry.at([g], [g], Context()).measure()
    (v,) = geometry.at([g], [g], Context()).steepest(total)
    assert v.norm().item() == pytest.approx(1.0, rel=1e-12)
    assert (g @ v).item() == pytest.approx(geometry.dual_norm(total), rel=1e-12)
    assert sum(geometry.at([part], [part], Context()).measure() for part in g.split(2)) == pytest.approx(total, rel=1e-12)
    assert torch.equal(g, torch.tensor(vector, dtype=torch.float64))
