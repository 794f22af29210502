"""Problems of one's own: three ways to say the same function, and no wrong constant survives examination."""

import itertools
import json
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sharpmin.theory import Hinge, HingeProblem, examine, own, plan, problems, simulate
from sharpmin.theory._examine.examine import setting_of
from sharpmin.theory._statements.random_problems import random_hinge

OFFSETS = np.array([[1.0, 0.0], [-1.0, 0.0], [0.0, 2.0], [0.0, -2.0]])
MATRIX = np.array([[3.0, 1.0], [1.0, 2.0]])
EIGENVALUES = np.linalg.eigvalsh(MATRIX)
RIGHT = {
    "dim": 2, "samples": 4, "beta": EIGENVALUES[1], "mu": EIGENVALUES[0], "sigma": math.sqrt(2.5), "f_star": 0.0,
}  # fmt: skip


def noisy(**changes):
    """x'Ax/2 with four linear samples."""
    return own(
        value=lambda x, i: x @ MATRIX @ x / 2 - OFFSETS[i] @ x,
        gradient=lambda x, i: MATRIX @ x - OFFSETS[i],
        **{**RIGHT, **changes},
    )


def same_in_torch():
    a, b = torch.tensor(MATRIX), torch.tensor(OFFSETS)
    return own(loss=lambda w, i: w @ a @ w / 2 - b[i] @ w, **RIGHT)


@pytest.mark.parametrize("method", ["gd", "sam", "sgd", "m-sam", "n-sam", "m-usam"])
def test_numpy_and_torch_give_the_same_run(method):
    k = {"method": method, "lr": 0.1, "rho": 0.2, "steps": 30, "x0": [1.0, -2.0], "seeds": [0, 1]}
    one, two = simulate(noisy(), **k), simulate(same_in_torch(), **k)
    assert np.allclose(one.x_final, two.x_final, rtol=1e-12, atol=1e-12)
    assert np.allclose(one.mean_perturbed_gap, two.mean_perturbed_gap, rtol=1e-11)


@pytest.mark.parametrize("method", ["sam", "m-sam", "n-sam"])
def test_functions_of_one_variable_are_the_hinge_problem(method):
    data = own(hinges=[(1.0, 1.0, []), Hinge(-1.0, 1.0)])
    by_hand = own(value=lambda x, i: x * x / 2 + (1 - 2 * i) * x, gradient=lambda x, i: x + 1 - 2 * i,
                  samples=2, beta=1.0, mu=1.0, sigma=1.0, f_star=0.0)  # fmt: skip
    assert isinstance(data, HingeProblem)
    assert (data.beta, data.mu, data.sigma, data.f_star) == (1.0, 1.0, 1.0, 0.0)
    k = {"method": method, "lr": 0.1, "rho": 0.3, "steps": 50, "x0": 2.0, "seeds": range(4)}
    assert np.allclose(simulate(data, **k).x_final, simulate(by_hand, **k).x_final, rtol=1e-12, atol=1e-13)


def test_value_and_gradient_are_means_over_samples():
    f, x = noisy(), np.array([[1.0, 2.0], [0.0, -1.0]])
    assert f.value(x) == pytest.approx(np.einsum("ij,jk,ik->i", x, MATRIX, x) / 2)
    assert np.allclose(f.gradient(x), x @ MATRIX)
    assert np.allclose(f.sample_gradient(x, np.array([[2], [3]])), x @ MATRIX - OFFSETS[[2, 3]])
    assert f.draw(np.array([0.0, 0.49, 0.99])).tolist() == [0, 1, 3]


@pytest.mark.parametrize("samples", [2, 64, 65, 200])
def test_the_gradient_is_the_mean_of_any_number_of_samples(samples):
    """In torch, some are differentiated together."""
    a = np.random.default_rng(1).normal(size=(samples, 2))
    claims = {"dim": 2, "samples": samples, "beta": 9.0, "sigma": 9.0, "f_star": 0.0}
    by_hand = own(value=lambda x, i: (a[i] @ x) ** 2 / 2, gradient=lambda x, i: (a[i] @ x) * a[i], **claims)
    b, x = torch.tensor(a), np.array([[1.0, -2.0], [0.5, 3.0]])
    some = own(loss=lambda w, i: (b[i] @ w) ** 2 / 2 if i % 3 else w.detach().sum(), **claims)  # every third is flat
    assert np.allclose(by_hand.gradient(x), x @ (a.T @ a) / samples, rtol=1e-12)
    kept = a[np.arange(samples) % 3 > 0]
    assert np.allclose(some.gradient(x), x @ (kept.T @ kept) / samples, rtol=1e-12)


def test_right_constants_are_not_refuted():
    found = examine(noisy(), x0=[1.0, -2.0])
    assert found.wrong == ()
    assert found.holds
    by_name = {c.name: c for c in found.constants}
    assert by_name["beta"].found == pytest.approx(EIGENVALUES[1], rel=1e-6)
    assert by_name["mu"].found == pytest.approx(EIGENVALUES[0], rel=1e-6)
    assert by_name["sigma"].found == pytest.approx(math.sqrt(2.5), rel=1e-9)
    assert by_name["f_star"].found == pytest.approx(0.0, abs=1e-12)
    assert by_name.keys() == {"gradient", "beta", "mu", "pl", "sigma", "f_star", "beta_component"}


WRONG = [
    ("beta", {"beta": 0.99 * EIGENVALUES[1]}),
    ("mu", {"mu": 1.01 * EIGENVALUES[0]}),
    ("pl", {"mu": 0.0, "pl": 1.01 * EIGENVALUES[0]}),
    ("sigma", {"sigma": 0.99 * math.sqrt(2.5)}),
    ("f_star", {"f_star": 0.01}),
    ("beta_component", {"beta": 1.01 * EIGENVALUES[1], "beta_component": 0.99 * EIGENVALUES[1]}),
]


@pytest.mark.parametrize(("name", "claim"), WRONG)
def test_a_wrong_constant_is_named_with_the_place_and_the_number(name, claim):
    found = examine(noisy(**claim), x0=[1.0, -2.0])
    assert name in [c.name for c in found.wrong]
    assert not found.holds
    wrong = next(c for c in found.wrong if c.name == name)
    assert f"{wrong.found:.6g}" in wrong.text
    assert f"WRONG: {wrong.text}" in str(found)
    assert name in found.record()["wrong"]


def test_an_infimum_that_is_too_low_shows_as_a_broken_pl_inequality():
    found = examine(noisy(f_star=-1.0), x0=[1.0, -2.0])
    assert [c.name for c in found.wrong] == ["pl"]


def test_a_gradient_that_does_not_belong_to_the_value():
    f = own(value=lambda x: x @ x / 2, gradient=lambda x: 1.01 * x, dim=2, beta=1.01, f_star=0.0)
    found = examine(f, x0=[1.0, 1.0])
    assert [c.name for c in found.wrong] == ["gradient"]
    assert "the slope of f along v" in found.wrong[0].text


def test_claimed_convexity():
    bump = own(loss=lambda w: -torch.cos(w), beta=1.0, f_star=-1.0, convex=True)
    assert setting_of(bump) == "convex"
    assert [c.name for c in examine(bump, x0=3.0).wrong] == ["convex"]


@pytest.mark.parametrize("convex", [False, True])
@pytest.mark.parametrize(("mu", "pl"), list(itertools.combinations_with_replacement((0.0, 1e-3, 0.5, 1.0, 2.0), 2)))
def test_the_setting_is_what_is_claimed(mu, pl, convex):
    """Strong convexity says most, then convexity, then PL, however small the constants are."""
    f = own(value=lambda x: x * x, gradient=lambda x: 2 * x, beta=2.0, mu=mu, pl=pl, convex=convex or mu > 0, f_star=0.0)
    claims = {"strongly-convex": mu > 0, "convex": convex, "pl": pl > 0, "nonconvex": True}
    assert setting_of(f) == next(name for name, claimed in claims.items() if claimed)


@pytest.mark.parametrize("power", range(0, 13, 2))
@pytest.mark.parametrize("dim", [1, 3])
def test_rounding_does_not_refute_a_right_constant(dim, power):
    """Far from 0, and within a short reach, quotients of differences of gradients are all rounding."""
    f = own(value=lambda x: 0.05 * np.sum(x * x), gradient=lambda x: 0.1 * x, dim=dim, beta=0.1, mu=0.1, f_star=0.0)
    found = examine(f, x0=np.full(dim, 10.0**power) if dim > 1 else 10.0**power, reach=1e-3, steps=1, pairs=50)
    assert [c.name for c in found.wrong] == []


def rotated(seed, dim, low, high):
    """A quadratic with curvatures from low to high in random directions."""
    rng = np.random.default_rng(seed)
    q, _ = np.linalg.qr(rng.normal(size=(dim, dim)))
    curvatures = np.concatenate([[low, high], rng.uniform(low, high, dim)])[:dim] if dim > 1 else np.array([high])
    matrix = q @ np.diag(curvatures) @ q.T
    return (matrix + matrix.T) / 2, rng.normal(size=dim)


@settings(max_examples=25)
@given(seed=st.integers(0, 10**6), dim=st.integers(1, 8), scale=st.floats(0.1, 100), share=st.floats(-0.9, 0.9))
def test_a_beta_one_percent_too_small_is_always_found_on_quadratics(seed, dim, scale, share):
    matrix, start = rotated(seed, dim, share * scale, scale)

    def gradient(x):
        return matrix @ np.atleast_1d(x)

    def quadratic(beta):
        return own(value=lambda x: np.atleast_1d(x) @ gradient(x) / 2, gradient=gradient, dim=dim, beta=beta, f_star=-1e9)

    found = examine(quadratic(0.99 * scale), x0=start if dim > 1 else start[0], steps=1, pairs=20)
    (wrong,) = [c for c in found.wrong if c.name == "beta"]
    x, y = (np.array(point) for point in wrong.points)
    assert np.linalg.norm(gradient(x) - gradient(y)) > 0.99 * scale * np.linalg.norm(x - y)
    assert wrong.found <= scale * (1 + 1e-9)
    assert "beta" not in [c.name for c in examine(quadratic(scale), x0=start if dim > 1 else start[0], steps=1, pairs=20).wrong]


@settings(max_examples=15)
@given(seed=st.integers(0, 10**6), dim=st.integers(2, 8), share=st.floats(0.05, 0.9))
def test_a_mu_one_percent_too_large_is_always_found_on_quadratics(seed, dim, share):
    matrix, start = rotated(seed, dim, share, 1.0)
    f = own(value=lambda x: x @ matrix @ x / 2, gradient=lambda x: matrix @ x, dim=dim, beta=1.0, mu=1.01 * share, f_star=0.0)
    (wrong,) = [c for c in examine(f, x0=start, steps=1, pairs=20).wrong if c.name == "mu"]
    x, y = (np.array(point) for point in wrong.points)
    assert (x - y) @ matrix @ (x - y) < 1.01 * share * (x - y) @ (x - y)
    assert wrong.found == pytest.approx(share, rel=1e-3)


def test_many_dimensions_are_searched_in_a_krylov_space():
    curvatures = np.linspace(0.1, 1.0, 100)
    f = own(value=lambda x: curvatures @ (x * x) / 2, gradient=lambda x: curvatures * x, dim=100, beta=0.99, f_star=0.0)
    assert [c.name for c in examine(f, x0=np.ones(100), steps=1).wrong] == ["beta"]


@pytest.mark.parametrize("seed", range(8))
def test_exact_constants_of_hinge_problems_are_never_refuted(seed):
    rng = np.random.default_rng(seed)
    f = random_hinge(rng, (-1.0, 0.0, 0.2)[seed % 3], 1.0, noise=(0.0, 0.5)[seed % 2])
    found = examine(f, x0=float(rng.normal()), reach=3.0)
    assert found.wrong == ()
    assert all(row.holds for row in found.bounds)
    assert next(c for c in found.constants if c.name == "beta").found == pytest.approx(f.beta, rel=0.05)


@pytest.mark.parametrize("name", ["e1", "trap", "logcosh", "us"])
def test_problems_of_the_laboratory_pass(name):
    keywords = {
        "e1": {"beta": 1.0, "mu": 0.1, "rho": 1.0},
        "trap": {"theta": 0.125, "beta": 2.0, "rho": 0.5},
        "logcosh": {"beta": 1.0, "dim": 3},
        "us": {"h1": 1.0, "h2": 0.2},
    }[name]
    f = problems()[name](**keywords)
    found = examine(f, x0=0.3 if f.dim == 1 else [0.3] * f.dim, rho=0.3)
    assert found.holds, str(found)
    assert found.setting == {"e1": "strongly-convex", "trap": "nonconvex", "logcosh": "convex", "us": "strongly-convex"}[name]
    if name == "us":  # its noise is unbounded: no stochastic statement applies
        assert {row.oracle for row in found.bounds} == {"exact"}
        assert any("sigma=inf" in reason for reason in found.silent)


def test_the_bounds_are_those_of_plan():
    f = noisy()
    found = examine(f, x0=[1.0, -2.0], rho=0.1, steps=50)
    assert {row.oracle for row in found.bounds} == {"exact", "m-sam", "n-sam"}
    assert found.delta == pytest.approx(float(f.gap(np.array([[1.0, -2.0]]))[0]))
    for row in found.bounds:
        rho = min(0.1, 1 / (2 * f.beta_component)) if row.radius == "unnormalized" else 0.1
        p = plan(setting="strongly-convex", oracle=row.oracle, radius=row.radius, beta=f.beta, mu=f.mu, rho=rho, steps=50,
                 sigma=None if row.oracle == "exact" else f.sigma, delta=found.delta, beta_component=f.beta)  # fmt: skip
        assert (row.bound, row.id, row.rho) == (p.bound, p.ids[0], str(p.rho))
    assert [s for s in found.silent if s.startswith("n-sam, clipped: ")]


def test_a_bound_with_a_wrong_constant_can_be_refuted():
    """With sigma claimed to be nothing, n-SAM stays above what T6 allows."""
    found = examine(noisy(sigma=1e-3), x0=[0.0, 0.0], rho=1e-3, steps=300, seeds=64, pairs=20)
    assert any(not row.holds for row in found.bounds)
    assert "REFUTED" in str(found)


def test_the_record_is_json():
    row = json.loads(json.dumps(examine(noisy(), x0=[1.0, -2.0], steps=20).record(), allow_nan=False))
    assert row["holds"] is True
    assert {c["name"] for c in row["constants"]} >= {"beta", "mu", "sigma"}
    assert all(b["bound"] >= 0 for b in row["bounds"])


def test_the_search_is_reproducible():
    one, two = (examine(noisy(), x0=[1.0, -2.0], steps=20, seed=3) for _ in range(2))
    assert one == two
