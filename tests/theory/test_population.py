"""Many functions at once, sample paths and compiled loops: the same numbers as `simulate` and a loop by hand."""

from itertools import product

import numpy as np
import pytest

from sharpmin.theory import expect, problems, simulate
from sharpmin.theory._problems.dense import Noisy
from sharpmin.theory._refute import population
from sharpmin.theory._refute.conjecture import conjecture
from sharpmin.theory._refute.genes import radii_of, radius_object
from sharpmin.theory._refute.hunt import COMMON, GENES, decode
from sharpmin.theory._refute.population import Runs, enumerate_paths, measure

LANES = 12
OF_SIMULATE = {
    "gap": lambda f, run: f.gap(run.x_final.values),
    "squared-gradient": lambda f, run: run.mean_square_gradient.values,
    "least-squared-gradient": lambda f, run: run.min_square_gradient.values,
    "perturbed-gap": lambda f, run: run.mean_perturbed_gap.values,
    "mean-gap": lambda f, run: np.mean([f.gap(x) for x in run.x.values[:-1]], axis=0),
    "squared-distance": lambda f, run: f.norm(run.x_final.values) ** 2,  # the optimum of every strongly convex lane is 0
}


def anything(*, beta, rho, steps, delta, lr):
    return 1.0


def population_of(family, method="sam", setting="strongly-convex", radius="constant", seed=0):
    """Random lanes of a family, with T up to 40, sorted as the engine wants them."""
    claim = conjecture(
        anything, method=method, assumptions=setting, quantity="gap", radius=radius, steps=(1, 40), lr_beta=(0.05, 1.0)
    )
    s, f, x0 = decode(claim, family, np.random.default_rng(seed).random((LANES, COMMON + GENES[family])))
    order = np.argsort(-s.steps, kind="stable")
    s, f, x0 = s.take(order), f.take(order), x0[order]
    lr = np.tile(s.lr, (int(s.steps[0]), 1))
    clip = s.clip if radius == "clipped" else None
    return claim, s, f, Runs(method, lr, *radii_of(claim, s, lr), clip, s.steps, x0)


def built(f, i):
    namespace = {}
    exec("from sharpmin import theory\n" + f.source(i), namespace)
    return namespace["f"]


@pytest.mark.parametrize("quantity", OF_SIMULATE)
@pytest.mark.parametrize(
    ("family", "method", "radius"),
    [("hinges", m, r) for m, r in product(("sam",), ("constant", "inverse-sqrt", "sqrt-lr", "capped", "clipped", "switched"))]
    + [
        ("cones", "sam", "constant"),
        ("cones", "usam", "constant"),
        ("quadratics", "sam", "clipped"),
        ("cones", "gd", "constant"),
    ],
)
def test_every_lane_is_what_simulate_gives(family, method, radius, quantity):
    claim, s, f, runs = population_of(family, method, radius=radius)
    found = measure(f, runs, quantity)
    for i in range(LANES):
        own = built(f, i)
        rho = radius_object(
            claim, {"rho": float(s.rho[i]), "beta": float(s.beta[i]), "c": float(s.c[i]), "switch": int(s.switch[i])}
        )
        x0 = runs.x0[i, 0] if own.dim == 1 else runs.x0[i]
        clip = None if runs.clip is None else float(runs.clip[i])
        k = {"lr": float(s.lr[i]), "rho": rho, "steps": int(s.steps[i]), "x0": x0, "clip": clip}
        run = simulate(own, method=method, record=range(k["steps"] + 1), engine="numpy", **k)
        assert found[i] == pytest.approx(float(OF_SIMULATE[quantity](own, run)[0]), rel=1e-8, abs=1e3 * own.resolution)


@pytest.mark.parametrize("quantity", OF_SIMULATE)
@pytest.mark.parametrize(
    ("family", "method", "radius"), [("hinges", "sam", "capped"), ("cones", "sam", "clipped"), ("cones", "usam", "constant")]
)
def test_without_the_compiler_the_numbers_are_the_same(family, method, radius, quantity):
    _, _, f, runs = population_of(family, method, radius=radius)
    assert enumerate_paths(f, runs, quantity) == pytest.approx(measure(f, runs, quantity), rel=1e-9, abs=1e-13)


def test_the_compiled_loops_are_what_serves(monkeypatch):
    _, _, f, runs = population_of("hinges")
    monkeypatch.setattr(population, "enumerate_paths", lambda *_: pytest.fail("not compiled"))
    measure(f, runs, "gap")


@pytest.mark.parametrize("setting", ["strongly-convex", "convex", "pl", "nonconvex"])
@pytest.mark.parametrize("family", ["hinges", "paths"])
def test_the_constants_of_a_lane_are_those_of_its_problem(family, setting):
    _, _, f, _ = population_of(family, "m-sam", setting)
    for i in range(LANES):
        own = built(f, i)
        assert own.beta <= f.beta[i] * (1 + 1e-9)
        if setting in ("strongly-convex", "pl"):
            assert (own.pl if setting == "pl" else own.mu) >= f.mu[i] * (1 - 1e-9)
        assert f.beta_component[i] == pytest.approx(own.beta_batch, rel=1e-9)
        assert f.sigma[i] == pytest.approx(own.sigma, rel=1e-9, abs=1e-12)
        x = np.linspace(-3.0, 3.0, 7)
        assert f.take([i]).gap(x[None, :, None])[0] == pytest.approx(own.gap(x), rel=1e-9, abs=1e3 * own.resolution)


def test_pl_constants_are_not_all_zero():
    _, _, f, _ = population_of("hinges", setting="pl", seed=3)
    exact = np.array([built(f, i).pl for i in range(LANES)])
    assert f.mu == pytest.approx(exact, rel=1e-6)
    assert (exact > 0).any()


@pytest.mark.parametrize("method", ["sgd", "m-sam", "n-sam", "m-usam", "n-usam"])
@pytest.mark.parametrize("quantity", ["gap", "mean-gap", "squared-gradient", "perturbed-gap", "squared-distance"])
def test_paths_are_enumerated_as_expect_does(method, quantity):
    _, s, f, runs = population_of("paths", method)
    found = measure(f, runs, quantity)
    for i in range(LANES):
        run = expect(
            built(f, i), method=method, lr=float(s.lr[i]), rho=float(s.rho[i]), steps=int(s.steps[i]), x0=runs.x0[i, 0]
        )
        assert found[i] == pytest.approx(run[quantity], rel=1e-8, abs=1e3 * f.resolution[i])


def paths_by_hand(f, method, lr, rho, steps, x0):
    """E f(x_T) - f* and mean E f(y) - f*: one path after the other, draw by draw."""
    p = f.probabilities
    draws = list(product(range(len(p)), repeat=2)) if method[0] == "n" else [(i, i) for i in range(len(p))]
    gap = perturbed = 0.0
    for path in product(draws, repeat=steps):
        x, weight = x0, 1.0
        for i, j in path:
            g = f.components[i](x)
            y = x + rho * (g if "u" in method else np.sign(g))
            weight *= p[i] * p[j] if method[0] == "n" else p[i]
            x -= lr * f.components[j](y)
            path_y = y
        gap += weight * f.gap(np.array([x]))[0]
        perturbed += weight * f.gap(np.array([path_y]))[0]
    return gap, perturbed


@pytest.mark.parametrize("method", ["m-sam", "n-sam", "m-usam", "n-usam"])
def test_expect_is_the_sum_over_all_paths(method):
    f = problems()["us"](h1=1.0, h2=0.3)
    one, two, three = (expect(f, method=method, lr=0.4, rho=0.5, steps=t, x0=0.7) for t in (1, 2, 3))
    gap, last = paths_by_hand(f, method, 0.4, 0.5, 3, 0.7)
    assert three["gap"] == pytest.approx(gap, rel=1e-12)
    assert 3 * three["perturbed-gap"] - 2 * two["perturbed-gap"] == pytest.approx(last, rel=1e-12)
    away = 0.7 - f.minimizers[0]
    assert one["squared-gradient"] == pytest.approx((f.beta * away) ** 2, rel=1e-12)


def test_paths_that_meet_go_on_as_one():
    f = problems()["e3"](p=0.5, rho=0.0, beta=2.0, c=1.0)  # x+ is one of four points
    run = expect(f, method="n-sam", lr=0.5, rho=0.5, steps=200, x0=0.0)
    assert run["squared-gradient"] == pytest.approx((199 / 200) * (f.sigma**2 + 4 * 0.25), rel=1e-9)


def test_in_several_dimensions_too():
    f = Noisy(problems()["quadratic"](curvatures=[1.0, 4.0]), ((1.0, 2.0), (-1.0, -2.0)))
    run = expect(f, method="sgd", lr=0.1, steps=1, x0=[1.0, 1.0], minimizer=[0.0, 0.0])
    assert run["squared-distance"] == pytest.approx(0.9**2 + 0.1**2 + 0.6**2 + 0.2**2)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"x0": [0.0, 1.0]}, "has 2 starts; give one"),
        ({"steps": 40, "lr": 0.1234}, "different points after"),
        ({"method": "sam-m"}, "must be one of"),
    ],
)
def test_expect_refuses(change, message):
    given = {"method": "m-sam", "lr": 0.3, "rho": 0.1, "steps": 2, "x0": 0.5} | change
    with pytest.raises(ValueError, match=message):
        expect(problems()["us"](h1=1.0, h2=0.3), **given)


def test_expect_needs_samples_that_can_be_listed():
    with pytest.raises(TypeError, match="cannot be listed"):
        expect(problems()["quadratic"](curvatures=[1.0, 2.0]), method="m-sam", lr=0.1, rho=0.1, steps=2, x0=[1.0, 1.0])
