"""Bounds and step sizes as numbers: against the text, against closed forms, and at the edges of their assumptions."""

import math
import re

import pytest

from sharpmin import rho as schedules
from sharpmin.theory import theorems

T = theorems()
CONVEX = {"beta": 1.0, "rho": 0.5, "steps": 1000, "delta": 1.0}
STRONG = {**CONVEX, "mu": 0.1}
NOISY = {**CONVEX, "sigma": 0.3}

# One admissible call of every statement. digits rows take what the statement takes that they apply.
EXAMPLES = {
    "t1": STRONG,
    "t1d": STRONG,
    "c1": {"curvature": 2.0, "rho": 0.7, "lr": 0.15},
    "t2": {"beta": 1.0, "mu": 0.1, "rho": 0.5, "steps": 1000},
    "t3": CONVEX,
    "t3b": CONVEX,
    "t4": CONVEX,
    "t4pl": STRONG,
    "trap": {"theta": 0.125, "beta": 2.0, "rho": 0.5},
    "trap-lipschitz": {"theta": 0.125, "beta": 2.0, "rho": 0.5},
    "trap-smooth": {"beta": 2.0, "rho": 0.5},
    "pl-trap": {"mu": 1.0, "rho": 3.5},
    "p1-slopes": {"beta": 1.0, "mu": 0.5},
    "polyak": {"curvature": 2.0, "rho": 0.5},
    "warm-start": {"theta": 0.125, "beta": 2.0, "rho": 0.5, "switch": 5},
    "t5": NOISY,
    "t6": {**NOISY, "mu": 0.1},
    "t8": {"beta": 1.0, "mu": 0.1, "sigma": 0.3, "rho": 0.5, "steps": 2, "distance": 2.0, "lr": 0.5},
    "t7": {"beta": 1.0, "sigma": 1.0, "rho": 1.0, "steps": 1000, "distance": 0.0, "lr": 0.002},
    "e1": {"beta": 1.0, "mu": 0.1, "rho": 1.0},
    "e2": {"beta": 1.0, "mu": 0.1, "rho": 1.0},
    "e3": {"p": 0.1, "rho": 1.0},
    "e4": {"beta": 1.0, "rho": 1.0, "d": 50.0},
    "e5": {"theta": 0.25, "s": 0.2, "beta": 2.0, "rho": 0.5},
    "u1": CONVEX,
    "u1pl": STRONG,
    "u4": {**STRONG, "lr": 0.8},
    "u2": CONVEX,
    "u2sc": STRONG,
    "u3": {"beta": 2.0, "rho": 0.5, "lr": 0.6},
    "us": {**NOISY, "lr": 0.1},
    "us-m": {**NOISY, "lr": 0.1},
    "us-limit": {"h1": 1.0, "h2": 0.2, "rho": 0.5},
    "d1": CONVEX,
    "d2": {**NOISY, "lr": 0.1},
    "d3": {"beta": 1.0, "mu": 0.1, "sigma": 0.3, "rho0": 0.5, "steps": 10, "delta": 1.0},
    "r1": {"beta": 1.0, "c": 0.5, "steps": 1000, "delta": 1.0},
    "r2": {"beta": 1.0, "clip": 0.5, "steps": 1000, "delta": 1.0},
    "r2pl": {"beta": 1.0, "mu": 0.1, "clip": 0.5, "steps": 3, "delta": 1.0},
    "r3": {**CONVEX, "switch": 10},
    "digits-t1": STRONG,
    "digits-t1d": STRONG,
    "digits-t6-m": {**NOISY, "mu": 0.1},
    "digits-t6-n": {**NOISY, "mu": 0.1},
    "digits-t6-vacuous": {**NOISY, "mu": 0.1},
    "digits-decay": {"constant_gap": 1.0},
    "t2k": {"beta": 1.0, "mu": 0.125, "rho": 0.5, "steps": 100},
    "kappa2": {"beta": 1.0, "mu": 0.01, "rho": 1.0, "lr": 0.05},
    "wedge": {"beta": 1.0, "mu": 0.1, "rho": 1.0, "lr": 0.01, "slope": 0.61},
}

GOLDEN = [
    # recomputed by hand from the statement, not with the code
    ("c1", {"curvature": 2.0, "rho": 0.7, "lr": 0.15}, 2.0 * 0.123529411764706**2 / 2),
    ("trap", EXAMPLES["trap"], 0.75),
    ("e1", EXAMPLES["e1"], 0.1 * (3.065625 - 0.0625) ** 2 / 2),
    ("e3", EXAMPLES["e3"], 0.64),
    ("e3", {"p": 0.1, "rho": 0.5, "beta": 2.0}, 0.64),
    ("e5", EXAMPLES["e5"], 0.09),
    ("u4", {"beta": 1.0, "mu": 0.1, "rho": 0.5, "lr": 0.8, "steps": 1, "delta": 1.0}, 0.839056),
    ("t2", {"beta": 2.0, "mu": 0.5, "rho": 0.5, "steps": 10}, 8 * 0.25 / (8 * 0.25 * 100)),
    ("t3", {**CONVEX, "lr": 0.5}, 2 / (0.5 * 1000) + 0.5 * 0.25),
    ("t3b", {**CONVEX, "lr": 0.5}, max(0.25 * 0.25 / (4 * 0.25), 1 / (0.5 * 0.75 * 1000))),
    ("t4", CONVEX, 2 / 1000 + 0.25),
    ("t4pl", {**STRONG, "steps": 2}, 0.81 + 0.25 / 0.2),
    ("t5", {**NOISY, "oracle": "n-sam", "lr": 0.1}, 2 / 100 + 0.1 * 0.09 + 0.25),
    ("t5", {**NOISY, "oracle": "m-sam", "lr": 0.1}, 2 / 100 + 0.1 * 0.64 + 0.25),
    ("t5", {**NOISY, "oracle": "m-sam", "lr": 0.1, "beta_component": 2.0}, 2 / 100 + 0.1 * 1.69 + 1.0),
    ("t5", {**NOISY, "oracle": "n-sam", "lr": 0.1, "beta_component": 2.0}, 2 / 100 + 0.1 * 0.09 + 0.25),
    ("t6", {**NOISY, "mu": 0.1, "oracle": "n-sam", "lr": 0.1, "steps": 2}, 0.99**2 + 0.25 / 0.2 + 0.1 * 0.09 / 0.2),
    ("t7", EXAMPLES["t7"], 1 / (2 * 0.998) + 0.001),
    ("u1", {**CONVEX, "lr": 0.5}, 2 / (0.5 * 1000 * 0.75)),
    ("u1pl", {**STRONG, "steps": 3}, (1 - 0.1 * 0.75) ** 3),
    ("d1", {**CONVEX, "steps": 3}, 2 + 0.75),
    ("d1", {**CONVEX, "steps": 3, "rho": schedules.InverseSqrt(0.5)}, 2 + 0.25 * (1 + 1 / 2 + 1 / 3)),
    ("t8", EXAMPLES["t8"], 0.975**2 * 4 + 0.5 * 21 + 0.9),
    ("e2", EXAMPLES["e2"], 4.05),
    ("e4", EXAMPLES["e4"], 22.39875),
    ("trap-smooth", EXAMPLES["trap-smooth"], 2 / (3 * math.pi)),
    ("pl-trap", EXAMPLES["pl-trap"], 6.5),
    ("p1-slopes", EXAMPLES["p1-slopes"], -2.0),
    ("polyak", EXAMPLES["polyak"], 0.25),
    ("warm-start", EXAMPLES["warm-start"], 0.75),
    ("u2", CONVEX, 1 / 480),
    ("u2", {**CONVEX, "lr": 0.5}, 1 / 375),
    ("u2sc", {**STRONG, "steps": 2}, 0.904**2),
    ("u3", EXAMPLES["u3"], 1.4),
    ("us", EXAMPLES["us"], (0.02 + 0.35 * 0.09) / 0.75),
    ("us-m", EXAMPLES["us-m"], (0.02 + 0.7 * 0.09) / 0.7),
    ("us-m", {**EXAMPLES["us-m"], "beta_component": 1.5}, (0.02 + (0.5625 + 0.2 * 3.0625) * 0.09) / 0.325),
    ("us-limit", EXAMPLES["us-limit"], 1.28 / 1.72),
    ("us-limit", {**EXAMPLES["us-limit"], "rho": 1.0}, 1.76 / 2.24),
    ("d2", {**EXAMPLES["d2"], "oracle": "n-sam"}, 0.02 + 0.25 + 0.009),
    ("d2", {**EXAMPLES["d2"], "beta_component": 2.0}, 0.02 + 1.0 + 0.169),
    ("d2", {**EXAMPLES["d2"], "steps": 3, "rho": schedules.InverseSqrt(0.5)}, 2 / 0.3 + 0.25 / 3 * (11 / 6) + 0.064),
    ("d3", {**EXAMPLES["d3"], "oracle": "n-sam"}, (19 * 18 + 680) / (29 * 28)),
    ("d3", EXAMPLES["d3"], (19 * 18 + 1780) / (29 * 28)),
    ("d3", {**EXAMPLES["d3"], "beta_component": 2.0}, (19 * 18 + 5380) / (29 * 28)),
    ("r1", {**EXAMPLES["r1"], "lr": 0.5}, 2 / 375),
    ("r2", {**EXAMPLES["r2"], "lr": 0.5}, 2 / 375),
    ("r2pl", EXAMPLES["r2pl"], 0.925**3),
    ("r3", EXAMPLES["r3"], 0.002 + 0.0025),
    ("r3", {**EXAMPLES["r3"], "switch": 2000}, 0.002 + 0.25),
    ("t2k", EXAMPLES["t2k"], 81 / 3200 * 0.25 * 512 / 1e4),
    ("kappa2", EXAMPLES["kappa2"], 0.006440625),
    ("kappa2", {"beta": 2.0, "mu": 0.02, "rho": 3.0, "lr": 0.025}, 0.006440625 * 18),
    ("t1d", {**STRONG, "steps": 100}, max((40 / 140) ** 3, 2 * 0.25 / 1e-3 / 139**2)),
]


def test_every_statement_has_an_example_here():
    assert EXAMPLES.keys() == T.keys()


@pytest.mark.parametrize(("name", "keywords", "value"), GOLDEN)
def test_golden(name, keywords, value):
    assert T[name].bound(**keywords) == pytest.approx(value, rel=1e-9)


MUTANTS = [(name, mutant) for name, theorem in T.items() for mutant in theorem.mutants]
NOTHING = {"rho": ("rho", 0.0), "rho0": ("rho0", 0.0), "c": ("c", 1e-9), "theta": ("clip", 1e-9)}  # the last two are > 0


@pytest.mark.parametrize(("name", "mutant"), [pair for pair in MUTANTS if re.fullmatch(r"\d+ % (lower|higher)", pair[1])])
def test_a_bound_that_is_moved_is_moved_by_what_it_says(name, mutant):
    percent, _, where = mutant.split()
    factor = 1 + int(percent) / 100 * (1 if where == "higher" else -1)
    assert T[name].mutants[mutant](**EXAMPLES[name]) == pytest.approx(factor * T[name].bound(**EXAMPLES[name]), rel=1e-12)


@pytest.mark.parametrize(("name", "mutant"), [pair for pair in MUTANTS if re.fullmatch(r"no \w+ term", pair[1])])
def test_a_bound_without_a_term_is_that_of_nothing(name, mutant):
    word = "rho0" if name == "d3" else mutant.split()[1]
    keyword, nothing = NOTHING[word]
    expected = T[name].bound(**{**EXAMPLES[name], keyword: nothing})
    assert T[name].mutants[mutant](**EXAMPLES[name]) == pytest.approx(expected, rel=1e-12, abs=0)


TAKES = {n: ["beta"] for n in ("t4", "t4pl", "u1", "u1pl", "r1", "r2", "r2pl", "r3")} | {
    n: ["beta", "rho"] for n in ("u2", "u2sc")
}


@pytest.mark.parametrize("name", ["t1", "t3", "t3b", "t5", "t6", *TAKES])
def test_the_prescribed_step_is_the_default(name):
    k = {n: EXAMPLES[name][n] for n in TAKES.get(name, EXAMPLES[name])}
    assert T[name].bound(**EXAMPLES[name]) == T[name].bound(**EXAMPLES[name], lr=T[name].step_size(**k))


@pytest.mark.parametrize("zero", ["rho", "sigma", "delta", "distance"])
@pytest.mark.parametrize("name", EXAMPLES)
def test_zero_is_legal(name, zero):
    if zero in EXAMPLES[name] and (name, zero) != ("e5", "rho"):  # e5 needs 0 < s < beta rho theta: nothing is left
        value = T[name].bound(**{**EXAMPLES[name], zero: 0.0})
        assert math.isfinite(value)
        assert value >= 0


@pytest.mark.parametrize("name", [n for n in EXAMPLES if {"rho", "delta"} <= EXAMPLES[n].keys()])
def test_nothing_is_claimed_where_nothing_is_wrong(name):
    """At the optimum, without perturbation and noise, every upper bound is 0."""
    zeros = dict.fromkeys(EXAMPLES[name].keys() & {"rho", "sigma", "delta"}, 0.0)
    assert T[name].bound(**{**EXAMPLES[name], **zeros}) == 0.0


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -1.0])
@pytest.mark.parametrize("name", EXAMPLES)
def test_values_outside_every_domain(name, value):
    for keyword in EXAMPLES[name]:
        with pytest.raises((ValueError, TypeError), match=rf"{keyword}="):
            T[name].bound(**{**EXAMPLES[name], keyword: value})


@pytest.mark.parametrize("name", EXAMPLES)
def test_wrong_and_missing_keywords(name):
    with pytest.raises(TypeError, match="betta") as error:
        T[name].bound(**EXAMPLES[name], betta=1.0)
    assert "it takes (" in str(error.value)
    first = next(iter(EXAMPLES[name]))
    with pytest.raises(TypeError, match=first):
        T[name].bound(**{k: v for k, v in EXAMPLES[name].items() if k != first})


@pytest.mark.parametrize("name", EXAMPLES)
def test_wrong_kinds(name):
    for keyword in EXAMPLES[name]:
        with pytest.raises(TypeError, match=keyword):
            T[name].bound(**{**EXAMPLES[name], keyword: "0.1"})


CONDITIONS = [
    ("t1", {**STRONG, "lr": 1.0}, "below 1/beta"),
    ("t1", {**STRONG, "mu": 1.5}, "mu <= beta"),
    ("c1", {"curvature": 2.0, "rho": 0.7, "lr": 1.0}, "below 2/curvature"),
    ("t2", {**EXAMPLES["t2"], "steps": 1}, "at least 2"),
    ("t2", {**EXAMPLES["t2"], "lr": 2.0}, "below 2/beta"),
    ("t3", {**CONVEX, "lr": 1.01}, "at most 1/beta"),
    ("t3b", {**CONVEX, "lr": 1.0}, "below 1/beta"),
    ("t4", {**CONVEX, "lr": 1.01}, "at most 1/beta"),
    ("t4pl", {**STRONG, "lr": 1.01}, "at most 1/beta"),
    ("trap", {**EXAMPLES["trap"], "theta": 0.5}, "theta"),
    ("trap", {**EXAMPLES["trap"], "lr": 0.6}, "at most 1/beta"),
    ("t5", {**NOISY, "lr": 1.01}, "at most 1/beta"),
    ("t5", {**NOISY, "oracle": "both"}, "oracle='both'"),
    ("t6", {**NOISY, "mu": 0.1, "lr": 1.01}, "at most 1/beta"),
    ("t7", {**EXAMPLES["t7"], "lr": 1.0}, "below 1/beta"),
    ("e1", {**EXAMPLES["e1"], "mu": 0.5}, "2.3730"),
    ("e1", {**EXAMPLES["e1"], "lr": 20.0}, "below 2/mu"),
    ("e3", {**EXAMPLES["e3"], "c": 7.0}, "must exceed"),
    ("e5", {**EXAMPLES["e5"], "s": 0.3}, "s=0.3"),
    ("u1", {**CONVEX, "rho": 1.0}, "beta rho"),
    ("u1pl", {**STRONG, "rho": 1.5}, "beta rho"),
    ("d1", {**CONVEX, "lr": 0.5}, "1/beta"),
    ("t1", {**STRONG, "steps": 0}, "steps=0"),
    ("t8", {**EXAMPLES["t8"], "lr": 1.0}, "below 1/beta"),
    ("e2", {**EXAMPLES["e2"], "mu": 1.5}, "mu <= beta"),
    ("e4", {**EXAMPLES["e4"], "d": 1.4}, "1.5 rho"),
    ("trap-smooth", {**EXAMPLES["trap-smooth"], "lr": 0.6}, "at most 1/beta"),
    ("pl-trap", {**EXAMPLES["pl-trap"], "lr": 0.6}, "where it was tried"),
    ("p1-slopes", {"beta": 1.0, "mu": 0.4}, "at most 2"),
    ("warm-start", {**EXAMPLES["warm-start"], "lr": 0.6}, "at most 1/beta"),
    ("warm-start", {**EXAMPLES["warm-start"], "switch": 0}, "switch=0"),
    ("u2", {**CONVEX, "lr": 0.81}, "beta rho/2"),
    ("u2sc", {**STRONG, "lr": 0.81}, "beta rho/2"),
    ("us", {**EXAMPLES["us"], "rho": 1.0}, "beta rho"),
    ("us", {**EXAMPLES["us"], "lr": 1.01}, "at most 1/beta"),
    ("us-m", {**EXAMPLES["us-m"], "lr": 1.01}, "at most 1/beta"),
    ("us-m", {**EXAMPLES["us-m"], "rho": 0.8, "lr": 0.5}, "lower rho"),
    ("us-m", {**EXAMPLES["us-m"], "beta_component": 2.0}, "lower rho"),
    ("us-limit", {**EXAMPLES["us-limit"], "h2": 0.0}, "h2=0"),
    ("d2", {**EXAMPLES["d2"], "lr": 1.01}, "at most 1/beta"),
    ("d2", {**EXAMPLES["d2"], "rho": schedules.Unnormalized(0.5)}, "depends on the gradient"),
    ("d2", {**EXAMPLES["d2"], "rho": schedules.Capped(0.5, c=1.0)}, "depends on the gradient"),
    ("d3", {**EXAMPLES["d3"], "oracle": "both"}, "oracle='both'"),
    ("r1", {**EXAMPLES["r1"], "c": 1.0}, "beta c"),
    ("r1", {**EXAMPLES["r1"], "lr": 1.01}, "at most 1/beta"),
    ("r2", {**EXAMPLES["r2"], "clip": 1.0}, "clip=1"),
    ("r2", {**EXAMPLES["r2"], "lr": 1.01}, "at most 1/beta"),
    ("r2pl", {**EXAMPLES["r2pl"], "clip": 1.0}, "clip=1"),
    ("r2pl", {**EXAMPLES["r2pl"], "lr": 1.01}, "at most 1/beta"),
    ("r3", {**EXAMPLES["r3"], "switch": 0}, "switch=0"),
    ("r3", {**EXAMPLES["r3"], "lr": 1.01}, "at most 1/beta"),
    ("t2k", {**EXAMPLES["t2k"], "mu": 0.13}, "at least 8"),
    ("t2k", {**EXAMPLES["t2k"], "steps": 63}, r"at least \(beta/mu\)\^2=64"),
    ("t2k", {**EXAMPLES["t2k"], "lr": 2.0}, "below 2/beta"),
    ("kappa2", {**EXAMPLES["kappa2"], "mu": 0.25, "lr": 0.25}, "beta/mu=4 must exceed 13/3"),
    ("kappa2", {**EXAMPLES["kappa2"], "mu": 0.125, "lr": 1.5 / 8**0.5}, "lr=0.53033 must be at most 0.197878"),
    ("wedge", {**EXAMPLES["wedge"], "lr": 2.1}, "has no such cycle"),
]


@pytest.mark.parametrize(("name", "keywords", "message"), CONDITIONS)
def test_outside_its_conditions_a_statement_is_silent(name, keywords, message):
    with pytest.raises(ValueError, match=message):
        T[name].bound(**keywords)


@pytest.mark.parametrize("name", [n for n, t in T.items() if t.prescribed is None])
def test_no_prescribed_step(name):
    with pytest.raises(ValueError, match="prescribes no step size"):
        T[name].step_size(beta=1.0)


def test_no_closed_form():
    with pytest.raises(ValueError, match="closed form"):
        T["t4"].closed_form(beta=1.0)
