"""Noise that grows with the gap and with the gradient: triples by hand, claimed, examined, and what plan makes of them."""

import itertools
import json
import math

import numpy as np
import pytest

from sharpmin.core.rho import Constant, Unnormalized
from sharpmin.theory import examine, own, plan, problems, theorems

UNIFIED = theorems()["unified"]
ROWS = [(a, a + e) for a, e in itertools.product((1.0, 2.0), (1.0, -1.0))]  # l = (a x - b)^2/2 with residual a - b at x* = 1
K = {"beta": 2.5, "beta_component": 4.0, "rho": 0.1, "steps": 10_000, "delta": 5.0}
PLAN = {"setting": "nonconvex", "oracle": "m-sam", **K}


def regression(residual, **changes):
    """f = 2.5 z^2/2 + 1/2 for z = x - 1, and E l'^2 = E a^4 z^2 + E a^2 = 8.5 z^2 + 2.5: the slopes' variance is unbounded.

    With f - f* = 1.25 z^2 and f'^2 = 6.25 z^2 a residual is true if 2.5 A + 6.25 B >= 8.5 and C >= 2.5, and an equality at
    every x if both are.
    """
    k = {"samples": 4, "beta": 2.5, "mu": 2.5, "beta_component": 4.0, "f_star": 0.5, **changes}
    return own(
        value=lambda x, i: (ROWS[i][0] * x - ROWS[i][1]) ** 2 / 2,
        gradient=lambda x, i: ROWS[i][0] * (ROWS[i][0] * x - ROWS[i][1]),
        residual=residual,
        **k,
    )


def scaled(share, *factors):
    """x'Hx/2 in the plane times 1 + share or 1 - share: E ||l'||^2 = (1 + share^2) ||f'||^2 with nothing at the minimum."""
    h = np.array([1.0, 0.3])
    sizes = (1 + share, 1 - share)
    return own(
        value=lambda x, i: sizes[i] * (h @ (x * x)) / 2,
        gradient=lambda x, i: sizes[i] * h * x,
        dim=2, samples=2, beta=1.0, mu=0.3, beta_component=1 + share, f_star=0.0, residual=factors,
    )  # fmt: skip


TIGHT = [(3.4, 0.0, 2.5), (0.9, 1.0, 2.5), (0.0, 1.36, 2.5), (1.4, 0.8, 2.5)]


def found(problem, x0):
    """The finding about the residual."""
    return next(c for c in examine(problem, x0=x0, steps=1, seeds=2).constants if c.name == "residual")


@pytest.mark.parametrize("residual", TIGHT)
def test_an_exact_residual_is_not_refuted(residual):
    constant = found(regression(residual), 4.0)
    assert constant.holds
    assert (constant.claimed, constant.found) == (1.0, pytest.approx(1.0, rel=1e-9))


@pytest.mark.parametrize(("residual", "which"), [(r, i) for r in TIGHT for i in range(3) if r[i]])
def test_a_number_one_percent_smaller_is_refuted_with_the_place(residual, which):
    smaller = tuple(v * (0.99 if i == which else 1.0) for i, v in enumerate(residual))
    constant = found(regression(smaller), 4.0)
    assert not constant.holds
    ((x,),) = constant.points
    a, b, c = smaller
    slopes = [row[0] * (row[0] * x - row[1]) for row in ROWS]
    z = x - 1
    share = np.mean(np.square(slopes)) / (2 * a * 1.25 * z * z + b * 6.25 * z * z + c)
    assert constant.found == pytest.approx(share, rel=1e-9)
    assert f"{constant.found:.6g} at {x:.6g}" in constant.text


@pytest.mark.parametrize("share", [0.5, 0.9])
def test_noise_proportional_to_the_gradient(share):
    assert found(scaled(share, 0.0, 1 + share**2, 0.0), [1.0, -2.0]).holds
    assert not found(scaled(share, 0.0, 0.99 * (1 + share**2), 0.0), [1.0, -2.0]).holds
    assert found(scaled(share, 1 + share**2, 0.0, 0.0), [1.0, -2.0]).holds  # ||f'||^2 <= 2 beta (f - f*)
    nothing = found(scaled(share, 0.0, 0.0, 0.0), [1.0, -2.0])
    assert (nothing.holds, nothing.found) == (False, math.inf)


def test_only_a_claim_is_tried():
    f = regression(None, sigma=100.0)
    assert "residual" not in [c.name for c in examine(f, x0=1.0, steps=1, seeds=2).constants]


def test_what_a_problem_says_of_its_noise():
    assert regression((0.9, 1, 2.5)).residual == (0.9, 1.0, 2.5)
    assert regression((0.9, 1, 2.5)).sigma == math.inf
    assert regression((0.9, 1, 2.5), sigma=7.0).sigma == 7.0
    assert regression(None, sigma=3.0).residual == (0.0, 1.0, 9.0)
    assert regression(None, sigma=1e200).residual is None
    assert problems()["us"](h1=1.0, h2=0.2).residual is None
    assert problems()["quadratic"](curvatures=[1.0]).residual == (0.0, 1.0, 0.0)


def test_runs_are_held_against_the_bound_that_takes_the_claim():
    report = examine(regression((0.9, 1.0, 2.5)), x0=4.0, rho=0.02, steps=100)
    rows = {row.radius: row for row in report.bounds if row.oracle == "m-sam"}
    assert rows.keys() == {"constant", "unnormalized"}
    assert report.holds
    for radius, row in rows.items():
        p = plan(**{**PLAN, "rho": 0.02, "steps": 100, "delta": report.delta}, radius=radius, residual=(0.9, 1.0, 2.5))
        assert (row.id, row.bound, row.quantity) == ("unified", p.bound, "least-squared-gradient")
    assert any("n-sam, constant: of the statements, unified" in reason for reason in report.silent)
    assert json.loads(json.dumps(report.record(), allow_nan=False))["holds"] is True


PLANNED = [*TIGHT, (0.0, 1.0, 0.09), (2.0, 0.0, 0.0), (0.0, 3.0, 0.0)]
RADII = {"constant": (1.0, Constant(0.1)), "unnormalized": (0.0, Unnormalized(0.1))}


@pytest.mark.parametrize("residual", PLANNED)
@pytest.mark.parametrize("radius", RADII)
@pytest.mark.parametrize("steps", [10, 1000, 10**6])
def test_plan_finds_the_smallest_bound_of_a_dense_scan(residual, radius, steps):
    lam, schedule = RADII[radius]
    p = plan(**{**PLAN, "steps": steps}, radius=radius, residual=residual)

    def bound(lr):
        try:
            return UNIFIED.bound(**{**K, "steps": steps}, lr=lr, lam=lam, residual=residual)
        except ValueError:
            return math.inf

    best = min(bound(10 ** (-k / 200) / 2.5) for k in range(1600))
    assert p.bound == bound(p.step_size)
    assert best * (1 - 1e-3) <= p.bound <= best * (1 + 1e-9)
    assert (p.ids, p.rho, p.trivial) == (("unified",), schedule, 25.0)
    assert "A = 0" in p.note
    assert math.fsum(p.terms.values()) == pytest.approx(p.bound, rel=1e-9)
    assert min(p.terms.values()) >= 0
    assert p.floor <= p.bound


@pytest.mark.parametrize("residual", PLANNED)
@pytest.mark.parametrize("radius", RADII)
@pytest.mark.parametrize("lr", [None, 0.01])
def test_the_floor_is_the_limit(residual, radius, lr):
    late = plan(**{**PLAN, "steps": 10**15}, radius=radius, residual=residual, lr=lr)
    assert late.bound == pytest.approx(late.floor, rel=1e-4, abs=1e-4)
    assert plan(**PLAN, radius=radius, residual=residual, lr=lr).floor == late.floor


def test_the_floors_by_hand():
    r2 = 0.16  # (beta_component rho)^2
    assert plan(**PLAN, residual=(0.9, 1.0, 2.5)).floor == pytest.approx(r2)
    raw = plan(**PLAN, residual=(0.9, 1.0, 2.5), radius="unnormalized").floor
    assert raw == pytest.approx((2 * 5.0 * 0.9 + 2.5) * r2 / (1 - r2))


@pytest.mark.parametrize("setting", ["strongly-convex", "convex", "pl"])
def test_other_settings_are_special_cases(setting):
    assert (
        plan(**{**PLAN, "setting": setting}, mu=0.1, residual=(1.0, 1.0, 1.0)).bound
        == plan(**PLAN, residual=(1.0, 1.0, 1.0)).bound
    )


def test_the_advice_reaches_the_accuracy_with_the_same_noise():
    p = plan(**PLAN, residual=(0.2, 1.0, 0.1), accuracy=0.1)
    assert {"rho", "rho and steps"}.intersection(item.change for item in p.advice)
    for item in p.advice:
        after = plan(**{**PLAN, "rho": item.rho, "steps": item.steps}, radius=item.radius, residual=(0.2, 1.0, 0.1))
        assert after.bound == item.bound <= 0.1


BAD_PLAN = [
    ({"sigma": 0.1}, ValueError, "sigma=0.1 and residual=.* leave out one"),
    ({"oracle": "exact"}, ValueError, "full gradients have no noise"),
    ({"oracle": "n-sam"}, ValueError, "no statement applies .* unified .oracle='m-sam', radius 'constant' or 'unnormalized'"),
    ({"radius": "decaying"}, ValueError, "no statement applies .* can use residual="),
    ({"quantity": "gap"}, ValueError, "none bounds quantity='gap'; the quantities here are 'least-squared-gradient'"),
    ({"residual": (0.0, 1.0)}, TypeError, "plan: residual=.* three numbers"),
    ({"residual": (0.0, 1.0, -1.0)}, ValueError, "plan: residual=.* finite and >= 0"),
    ({"residual": 0.3}, TypeError, "plan: residual=0.3 must be three numbers"),
    ({"lr": 0.4}, ValueError, "unified: lr=0.4 .* must be below 1"),
]  # fmt: skip


@pytest.mark.parametrize(("changes", "kind", "message"), BAD_PLAN)
def test_what_plan_refuses(changes, kind, message):
    with pytest.raises(kind, match=message):
        plan(**{**PLAN, "residual": (0.9, 1.0, 2.5), **changes})


BAD_OWN = [
    ({"residual": (1.0, 2.0)}, TypeError, "own: residual=.* three numbers"),
    ({"residual": (1.0, 2.0, math.nan)}, ValueError, "own: residual=.* finite and >= 0"),
    ({"residual": None}, ValueError, "need sigma="),
    ({"residual": (0.0, 1.0, 1.0), "samples": 1}, TypeError, "one sample has none; leave out residual="),
]


@pytest.mark.parametrize(("changes", "kind", "message"), BAD_OWN)
def test_what_own_refuses(changes, kind, message):
    with pytest.raises(kind, match=message):
        regression(**{"residual": (0.0, 1.0, 1.0), **changes})


def test_the_constants_of_hinges_are_not_claimed():
    with pytest.raises(TypeError, match="leave out residual"):
        own(hinges=[(0.0, 1.0, [])], residual=(0.0, 1.0, 0.0))
