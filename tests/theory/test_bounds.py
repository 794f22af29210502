"""Bounds and step sizes as numbers: against the text, against closed forms, and at the edges of their assumptions."""

import inspect
import math
import re

import pytest

from sharpmin import rho as schedules
from sharpmin.theory import theorems
from sharpmin.theory._statements.situation import CONVEX, NOISY, STRONG

T = theorems()
NAMES = list(T)


@pytest.mark.parametrize("name", NAMES)
def test_every_statement_has_an_example(name):
    assert T[name].example
    assert math.isfinite(T[name].bound(**T[name].example))


def takes(function):
    return inspect.signature(function).parameters


GOLDEN = [(name, changes, value) for name, theorem in T.items() for changes, value in theorem.golden]


@pytest.mark.parametrize(("name", "changes", "value"), GOLDEN)
def test_golden(name, changes, value):
    assert T[name].bound(**{**T[name].example, **changes}) == pytest.approx(value, rel=1e-9)


MUTANTS = [(name, mutant) for name, theorem in T.items() for mutant in theorem.mutants]
NOTHING = {"rho": {"rho": 0.0, "rho0": 0.0}, "c": {"c": 1e-9}, "theta": {"clip": 1e-9}}  # c and clip have to be > 0


@pytest.mark.parametrize(("name", "mutant"), [pair for pair in MUTANTS if re.fullmatch(r"\d+ % (lower|higher)", pair[1])])
def test_a_bound_that_is_moved_is_moved_by_what_it_says(name, mutant):
    percent, _, where = mutant.split()
    factor = 1 + int(percent) / 100 * (1 if where == "higher" else -1)
    assert T[name].mutants[mutant](**T[name].example) == pytest.approx(factor * T[name].bound(**T[name].example), rel=1e-12)


@pytest.mark.parametrize(("name", "mutant"), [pair for pair in MUTANTS if re.fullmatch(r"no \w+ term", pair[1])])
def test_a_bound_without_a_term_is_that_of_nothing(name, mutant):
    nothing = {k: v for k, v in NOTHING[mutant.split()[1]].items() if k in takes(T[name].formula)}
    assert len(nothing) == 1
    expected = T[name].bound(**{**T[name].example, **nothing})
    assert T[name].mutants[mutant](**T[name].example) == pytest.approx(expected, rel=1e-12, abs=0)


PRESCRIBED = [n for n, t in T.items() if t.prescribed is not None and "lr" in takes(t.formula) and "lr" not in t.example]


@pytest.mark.parametrize("name", PRESCRIBED)
def test_the_prescribed_step_is_the_default(name):
    theorem = T[name]
    k = {key: value for key, value in theorem.example.items() if key in takes(theorem.prescribed)}
    assert theorem.bound(**theorem.example) == theorem.bound(**theorem.example, lr=theorem.step_size(**k))


@pytest.mark.parametrize("zero", ["rho", "sigma", "delta", "distance"])
@pytest.mark.parametrize("name", NAMES)
def test_zero_is_legal(name, zero):
    """An upper bound speaks there; an example that something stays may need room for its noise, and then says so."""
    theorem = T[name]
    if zero not in theorem.example:
        return
    keywords = {**theorem.example, zero: 0.0}
    if theorem.kind == "lower" and zero == "rho" and refuses(theorem, keywords):
        with pytest.raises(ValueError, match=r"must be .*rho"):
            theorem.bound(**keywords)
        return
    value = theorem.bound(**keywords)
    assert math.isfinite(value)
    assert value >= 0


def refuses(theorem, keywords):
    try:
        theorem.bound(**keywords)
    except ValueError:
        return True
    return False


@pytest.mark.parametrize("name", [n for n in T if {"rho", "delta"} <= T[n].example.keys()])
def test_nothing_is_claimed_where_nothing_is_wrong(name):
    """At the optimum, without perturbation and noise, every upper bound is 0."""
    zeros = dict.fromkeys(T[name].example.keys() & {"rho", "sigma", "delta"}, 0.0)
    assert T[name].bound(**{**T[name].example, **zeros}) == 0.0


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -1.0])
@pytest.mark.parametrize("name", NAMES)
def test_values_outside_every_domain(name, value):
    for keyword in T[name].example:
        with pytest.raises((ValueError, TypeError), match=rf"{keyword}="):
            T[name].bound(**{**T[name].example, keyword: value})


@pytest.mark.parametrize("name", NAMES)
def test_wrong_and_missing_keywords(name):
    with pytest.raises(TypeError, match="betta") as error:
        T[name].bound(**T[name].example, betta=1.0)
    assert "it takes (" in str(error.value)
    first = next(iter(T[name].example))
    with pytest.raises(TypeError, match=first):
        T[name].bound(**{k: v for k, v in T[name].example.items() if k != first})


@pytest.mark.parametrize("name", NAMES)
def test_wrong_kinds(name):
    for keyword in T[name].example:
        with pytest.raises(TypeError, match=keyword):
            T[name].bound(**{**T[name].example, keyword: "0.1"})


CONDITIONS = [
    ("t1", {**STRONG, "lr": 1.0}, "below 1/beta"),
    ("t1", {**STRONG, "mu": 1.5}, "mu <= beta"),
    ("c1", {"curvature": 2.0, "rho": 0.7, "lr": 1.0}, "below 2/curvature"),
    ("t2", {**T["t2"].example, "steps": 1}, "at least 2"),
    ("t2", {**T["t2"].example, "lr": 2.0}, "below 2/beta"),
    ("t3", {**CONVEX, "lr": 1.01}, "at most 1/beta"),
    ("t3b", {**CONVEX, "lr": 1.0}, "below 1/beta"),
    ("t4", {**CONVEX, "lr": 1.01}, "at most 1/beta"),
    ("t4pl", {**STRONG, "lr": 1.01}, "at most 1/beta"),
    ("trap", {**T["trap"].example, "theta": 0.5}, "theta"),
    ("trap", {**T["trap"].example, "lr": 0.6}, "at most 1/beta"),
    ("t5", {**NOISY, "lr": 1.01}, "at most 1/beta"),
    ("t5", {**NOISY, "oracle": "both"}, "oracle='both'"),
    ("t6", {**NOISY, "mu": 0.1, "lr": 1.01}, "at most 1/beta"),
    ("t7", {**T["t7"].example, "lr": 1.0}, "below 1/beta"),
    ("t7x", {**T["t7x"].example, "lr": 1.01}, "at most 1/beta"),
    ("any-rate", {**T["any-rate"].example, "lr": 1.01}, "at most 1/beta"),
    ("any-rate", {**T["any-rate"].example, "lr": lambda t: 0.1 - 0.1 * t}, "not > 0"),
    ("any-rate", {**T["any-rate"].example, "rho": schedules.Unnormalized(0.5)}, "depends on the gradient"),
    ("ema-cycle", {**T["ema-cycle"].example, "lr": 1.5}, "must be below 1.5; beyond"),
    ("ema-cycle", {**T["ema-cycle"].example, "momentum": 1.0}, "momentum=1 must be below 1"),
    ("ema-cycle", {**T["ema-cycle"].example, "average": "ema"}, "average='ema'"),
    ("interpolation", {**T["interpolation"].example, "rho": 0.5}, "rho=0.5 must be below"),
    ("interpolation", {**T["interpolation"].example, "lr": 0.4}, "twice the prescribed"),
    ("interpolation", {**T["interpolation"].example, "beta_component": 0.9}, "is below beta=1"),
    ("unified", {**T["unified"].example, "lam": 1.5}, "lam=1.5"),
    ("unified", {**T["unified"].example, "residual": (0.0, 1.0, -1.0)}, "finite and >= 0"),
    ("unified", {**T["unified"].example, "lr": 0.5}, "must be below 1"),
    ("e1", {**T["e1"].example, "mu": 0.5}, "2.3730"),
    ("e1", {**T["e1"].example, "lr": 20.0}, "below 2/mu"),
    ("e3", {**T["e3"].example, "c": 7.0}, "must exceed"),
    ("e5", {**T["e5"].example, "s": 0.3}, "s=0.3"),
    ("u1", {**CONVEX, "rho": 1.0}, "beta rho"),
    ("u1pl", {**STRONG, "rho": 1.5}, "beta rho"),
    ("d1", {**CONVEX, "lr": 0.5}, "1/beta"),
    ("t1", {**STRONG, "steps": 0}, "steps=0"),
    ("t8", {**T["t8"].example, "lr": 1.0}, "below 1/beta"),
    ("t8x", {**T["t8x"].example, "lr": 1.01}, "at most 1/beta"),
    ("e2", {**T["e2"].example, "mu": 1.5}, "mu <= beta"),
    ("e4", {**T["e4"].example, "d": 1.4}, "1.5 rho"),
    ("trap-smooth", {**T["trap-smooth"].example, "lr": 0.6}, "at most 1/beta"),
    ("pl-trap", {**T["pl-trap"].example, "lr": 0.6}, "where it was tried"),
    ("p1-slopes", {"beta": 1.0, "mu": 0.4}, "at most 2"),
    ("warm-start", {**T["warm-start"].example, "lr": 0.6}, "at most 1/beta"),
    ("warm-start", {**T["warm-start"].example, "switch": 0}, "switch=0"),
    ("u2", {**CONVEX, "lr": 0.81}, "beta rho/2"),
    ("u2sc", {**STRONG, "lr": 0.81}, "beta rho/2"),
    ("us", {**T["us"].example, "rho": 1.0}, "beta rho"),
    ("us", {**T["us"].example, "lr": 1.01}, "at most 1/beta"),
    ("us-m", {**T["us-m"].example, "lr": 1.01}, "at most 1/beta"),
    ("us-m", {**T["us-m"].example, "rho": 0.8, "lr": 0.5}, "lower rho"),
    ("us-m", {**T["us-m"].example, "beta_component": 2.0}, "lower rho"),
    ("us-limit", {**T["us-limit"].example, "h2": 0.0}, "h2=0"),
    ("d2", {**T["d2"].example, "lr": 1.01}, "at most 1/beta"),
    ("d2", {**T["d2"].example, "rho": schedules.Unnormalized(0.5)}, "depends on the gradient"),
    ("d2", {**T["d2"].example, "rho": schedules.Capped(0.5, c=1.0)}, "depends on the gradient"),
    ("d3", {**T["d3"].example, "oracle": "both"}, "oracle='both'"),
    ("r1", {**T["r1"].example, "c": 1.0}, "beta c"),
    ("r1", {**T["r1"].example, "lr": 1.01}, "at most 1/beta"),
    ("r2", {**T["r2"].example, "clip": 1.0}, "clip=1"),
    ("r2", {**T["r2"].example, "lr": 1.01}, "at most 1/beta"),
    ("r2pl", {**T["r2pl"].example, "clip": 1.0}, "clip=1"),
    ("r2pl", {**T["r2pl"].example, "lr": 1.01}, "at most 1/beta"),
    ("r3", {**T["r3"].example, "switch": 0}, "switch=0"),
    ("r3", {**T["r3"].example, "lr": 1.01}, "at most 1/beta"),
    ("t2k", {**T["t2k"].example, "mu": 0.13}, "at least 8"),
    ("t2k", {**T["t2k"].example, "steps": 63}, r"at least \(beta/mu\)\^2=64"),
    ("t2k", {**T["t2k"].example, "lr": 2.0}, "below 2/beta"),
    ("kappa2", {**T["kappa2"].example, "mu": 0.25, "lr": 0.25}, "beta/mu=4 must exceed 13/3"),
    ("kappa2", {**T["kappa2"].example, "mu": 0.125, "lr": 1.5 / 8**0.5}, "lr=0.53033 must be at most 0.197878"),
    ("wedge", {**T["wedge"].example, "lr": 2.1}, "has no such cycle"),
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
