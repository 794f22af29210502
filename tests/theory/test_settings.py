"""The 60 cells: complete, from the same map as plan, and with simulated numbers that a calculation by hand confirms."""

import itertools
import math
from collections import Counter
from dataclasses import replace

import pytest

from sharpmin.theory import Verdict, measure_settings, plan, settings, theorems
from sharpmin.theory._statements.atlas import atlas, decided
from sharpmin.theory._statements.measure import kinked

CASES = atlas()
RULES = {name: theorem.rule for name, theorem in theorems().items() if theorem.rule and not theorem.applies}

T = theorems()
ORACLES, SETTINGS = ("deterministic", "m-sam", "n-sam"), ("strongly-convex", "convex", "pl", "nonconvex")
RADII = ("constant", "decaying", "unnormalized", "capped", "clipped")

# y: all the way, n: it cannot; one letter a setting, in the order of SETTINGS
ANSWERS = {
    ("deterministic", "constant"): "yynn",
    ("deterministic", "decaying"): "yyyy",
    ("deterministic", "unnormalized"): "yyyy",
    ("deterministic", "capped"): "yyyy",
    ("deterministic", "clipped"): "yyyy",
    **{(oracle, radius): "yyyy" if radius == "decaying" else "nnnn" for oracle in ORACLES[1:] for radius in RADII},
}


@pytest.fixture(scope="module")
def simulated():
    return measure_settings(quick=True)


@pytest.fixture(scope="module")
def cells(simulated):
    return {(c.oracle, c.setting, c.radius): c for c in settings((), simulated)}


def verdict(name, ratio, *, holds=True, vacuous=False):
    return Verdict(name, ["P1"], "upper", 2.0 * ratio, 2.0, ratio, holds, vacuous, 1, 0.0, "<=", f"instance of {name}", "", 0.0)


def test_60_different_cells(cells):
    assert len(settings()) == 60
    assert cells.keys() == set(itertools.product(ORACLES, SETTINGS, RADII))


def test_the_answers(cells):
    for (oracle, radius), letters in ANSWERS.items():
        found = "".join("n" if cells[oracle, setting, radius].all_the_way is False else "y" for setting in SETTINGS)
        assert found == letters, (oracle, radius)
    assert all(c.all_the_way is not None for c in cells.values())


def test_no_cell_is_empty_without_a_reason(cells):
    for given in ((), [verdict("t6", 0.5)]):
        for cell in settings(given):
            assert cell.measured is not None or "no verdict" in cell.note or "measure_settings" in cell.note
            assert cell.bound or "no upper bound" in cell.note
            assert (cell.ratio is None) == (cell.measured is None)
    assert all(c.ratio is None and "simulated: " in c.note for c in cells.values() if c.measured is not None)


def test_only_registered_statements_are_named(cells):
    assert {name for c in cells.values() for name in c.ids} <= T.keys()
    for c in cells.values():
        assert c.bound == (RULES[c.ids[0]].formula if c.ids and c.ids[0] in RULES else "")


def test_what_is_called_proved_rests_on_a_proof(cells):
    for c in cells.values():
        kinds = {T[name].kind for name in c.ids}
        if c.proved:
            assert kinds & ({"upper", "tight"} if c.all_the_way else {"lower", "limit", "tight"})
        else:
            assert "measured" in c.note or "numeric" in c.note
    assert Counter(c.proved for c in cells.values()) == {True: 39, False: 21}


def test_plan_and_the_table_use_one_map(cells):
    k = {"beta": 1.0, "mu": 0.1, "rho": 0.1, "steps": 100, "delta": 1.0, "distance": 1.0}
    for (oracle, setting, radius), c in cells.items():
        name = "exact" if oracle == "deterministic" else oracle
        sigma = None if name == "exact" else 0.1
        if not c.bound:
            with pytest.raises(ValueError, match="no statement applies"):
                plan(setting=setting, oracle=name, radius=radius, sigma=sigma, **k)
            continue
        named = c.ids + (cells[oracle, setting, "constant"].ids if radius == "decaying" else ())  # rho_t <= rho is enough
        assert plan(setting=setting, oracle=name, radius=radius, sigma=sigma, **k).ids[0] in named


def test_a_cell_takes_the_closest_call_of_its_statements():
    chosen = [verdict("t6", 0.5), verdict("e1", 1.1), verdict("e3", 0.4), verdict("t5", 0.99)]

    def cell(verdicts):
        return next(
            c for c in settings(verdicts) if (c.oracle, c.setting, c.radius) == ("m-sam", "strongly-convex", "constant")
        )

    assert (cell(chosen).measured, cell(chosen).ratio) == (2.2, 1.1)
    assert "measured by e1: instance of e1" in cell(chosen).note
    assert cell([verdict("t6", 0.5), verdict("e1", 1.0, vacuous=True)]).ratio == 0.5
    assert cell([verdict("t6", 1.7, holds=False), verdict("e1", 1.0)]).ratio == 1.7


def test_a_simulation_stands_only_where_no_statement_speaks(simulated):
    for key in simulated:
        assert not decided(CASES[key])
    assert {key for key, case in CASES.items() if case.all_the_way is None} <= simulated.keys()


def squared(mean_drift, low, high):
    """(the root of the mean virtual gradient) as ||grad f||^2 of x^2/2."""
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if mean_drift(middle) < 0 else (low, middle)
    return low**2


def e3_drift(x, kind):
    """E of the step's direction on E3 with p = 1/4, c = 4.5, rho = 1, as lr -> 0."""
    samples = [(4.5, 0.25), (-1.5, 0.75)]

    def direction(first, second):
        g = x - first
        size = min(1.0, 0.5 * abs(g)) if kind == "capped" else 1.0
        difference = x + size * math.copysign(1.0, g) - second - g
        if kind == "clipped":
            difference *= min(1.0, 0.5 * abs(g) / abs(difference))
        return g + difference

    return samples, direction


@pytest.mark.parametrize("kind", ["capped", "clipped"])
@pytest.mark.parametrize("oracle", ["m-sam", "n-sam"])
def test_the_simulated_floors_on_e3_by_hand(simulated, oracle, kind):
    def drift(x):
        samples, direction = e3_drift(x, kind)
        if oracle == "m-sam":
            return sum(p * direction(xi, xi) for xi, p in samples)
        return sum(p * q * direction(xi, other) for xi, p in samples for other, q in samples)

    found = simulated[oracle, "convex", kind]
    assert abs(found.value - squared(drift, -1.4, 1.4)) <= 4 * found.error
    assert found.stays


def test_the_simulated_floor_of_n_usam_by_hand(simulated):
    """At x > 0 the two ascents end at 1.1 x + 0.5 and 1.1 x - 0.5, where f' is a fifth of it and it: the mean is 0."""
    x = 0.4 / 1.32
    found = simulated["n-sam", "pl", "unnormalized"]
    assert abs(found.value - (x / 5) ** 2) <= 4 * found.error
    assert found.stays
    assert (kinked().beta, kinked().mu, kinked().sigma) == (1.0, pytest.approx(0.2), 1.0)


def test_what_differs_from_zero_by_less_than_four_errors_does_not_stay(simulated):
    found = simulated["n-sam", "pl", "capped"]
    assert found.stays
    assert not replace(found, value=3.9 * found.error).stays
    assert not replace(found, value=-found.value).stays
