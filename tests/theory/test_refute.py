"""`refute` finds what is false, leaves what is true, and what it reports can be run again."""

import json
import re
import subprocess
import sys
from dataclasses import replace

import pytest

from sharpmin import theory
from sharpmin.theory import Theorem, refute, theorems

SAID = {
    "r3": {"quantity": "squared-gradient", "method": "sam", "assumptions": "nonconvex", "radius": "switched"},
    "u4": {"quantity": "gap", "method": "usam", "assumptions": "strongly-convex", "lr_beta": (1e-3, 2.0)},
    "d1": {"steps": (1, 100)},  # its bound sums over t, step by step
    "d2": {"method": "n-sam", "steps": (1, 100)},
    "d3": {"method": "m-sam"},  # by default it is asked without noise
}
"""What a statement does not say of itself, or what makes it quicker; u4 is an exact value, so an upper bound as well."""

FOUND_AT = {("d3", "1 % lower"): {"method": "n-sam", "kappa": 101, "steps": 1}}
"""Mutants that are false in a corner alone, and where."""

ELSEWHERE = {
    "t1r": "its radii are any up to rho; its own check has an adversary choose them",
    "t1dr": "the same",
    "any-rate": "its step sizes and radii are any sequences",
    "interpolation": "its samples share a minimizer, which is no assumption that refute knows",
    "unified": "its radius lies between SAM's and USAM's, and its noise grows with the gap",
}
"""Upper bounds on classes that refute has no words for."""

NO_UPPER_BOUND = "a lower bound, a limit, or the value on one instance: no function can exceed it"
ON_DATA = "an application to data; the statement that it applies is attacked itself"
TRUE = {("u4", "1 % higher"): "an upper bound that is merely not tight"}
"""Mutants that are no false upper bounds, and why."""


def why_not(theorem: Theorem) -> str:
    """The reason why a statement is not attacked; empty if it is."""
    if theorem.applies:
        return ON_DATA
    if theorem.id in ELSEWHERE:
        return ELSEWHERE[theorem.id]
    if theorem.rule or theorem.id in SAID:
        return ""
    return NO_UPPER_BOUND


ATTACKED = {t.id: t for t in theorems().values() if not why_not(t)}
FALSE = [(t.id, name) for t in ATTACKED.values() for name in t.mutants if (t.id, name) not in TRUE]


def test_nothing_is_left_out_without_a_reason():
    left = {t.id: why_not(t) for t in theorems().values() if why_not(t)}
    assert all(t.kind != "upper" for t in theorems().values() if left.get(t.id) == NO_UPPER_BOUND)
    assert len(ATTACKED) >= 20
    assert len(FALSE) >= 55


@pytest.mark.parametrize(("id_", "mutant"), FALSE)
def test_every_false_bound_is_refuted(id_, mutant):
    false = replace(ATTACKED[id_], formula=ATTACKED[id_].mutants[mutant])
    said = FOUND_AT.get((id_, mutant), SAID.get(id_, {}))
    assert any(refute(false, budget=budget, **said).refuted for budget in (0, 1000))


@pytest.mark.parametrize("id_", ATTACKED)
def test_no_true_bound_is_refuted(id_):
    result = refute(ATTACKED[id_], budget=1000, **SAID.get(id_, {}))
    assert not result.refuted
    assert 0.3 < result.ratio <= 1 + 1e-9
    assert result.evaluations > 1000


@pytest.mark.parametrize(("id_", "mutant"), TRUE)
def test_a_true_mutant_is_not_refuted(id_, mutant):
    assert not refute(replace(ATTACKED[id_], formula=ATTACKED[id_].mutants[mutant]), budget=1000, **SAID[id_]).refuted


def floor(*, beta, mu, rho, steps, delta, lr):
    """What T1 leaves once the start is forgotten, of order kappa times that of a quadratic's two-cycle."""
    tau = beta**2 * lr * rho / (2 * (1 - beta * lr))
    stays = max(tau**2 / (2 * mu), beta**3 * lr**2 * rho**2 / 2)
    if (1 - 2 * mu * lr * (1 - beta * lr / 2)) ** steps * delta > stays / 50:
        raise ValueError("the start still counts")
    return stays


KAPPA_30 = {
    "method": "sam", "assumptions": "strongly-convex", "quantity": "gap", "kappa": 30, "rho": 1.0, "beta": 1.0,
    "lr_beta": (0.02, 0.1), "steps": 300,
}  # fmt: skip


def test_at_kappa_30_a_function_is_far_worse_than_every_quadratic():
    best = refute(floor, budget=3000, families=["quadratics"], **KAPPA_30)
    assert best.ratio < 0.045  # 1/kappa, and what three dimensions add
    found = refute(floor, budget=3000, families=["cones"], **KAPPA_30)
    assert not found.refuted
    assert found.ratio > 0.15  # the wedge of the theory has .1548
    assert found.ratio > 3 * best.ratio


def hopeful(*, beta, mu, steps, delta, lr):
    """As if rho did not matter."""
    return (1 - mu * lr) ** steps * delta


HOPEFUL = {"method": "sam", "assumptions": "strongly-convex", "quantity": "gap", "budget": 800}


def rerun(result):
    """What the source of the worst run gives, in a namespace of its own."""
    namespace = {}
    exec(result.code(), namespace)
    return namespace["measured"], namespace["limit"]


@pytest.mark.parametrize("family", ["shipped", "hinges", "cones", "quadratics", "paths"])
@pytest.mark.parametrize("radius", ["constant", "capped"])
def test_the_code_gives_the_number(family, radius):
    method = "m-sam" if family == "paths" else "sam"
    given = {"method": method, "quantity": "gap", "assumptions": "strongly-convex", "radius": radius, "budget": 300}
    result = refute(hopeful, families=[family], **given)
    measured, limit = rerun(result)
    assert measured == result.worst.measured
    assert (
        limit == result.worst.bound == hopeful(**{k: result.worst.constants[k] for k in ("beta", "mu", "steps", "delta", "lr")})
    )
    assert measured / limit == pytest.approx(result.ratio, rel=1e-6)
    assert result.ratio > 0.9


@pytest.mark.parametrize("id_", ["t1d", "t7", "d1", "d2", "d3", "r2", "us-m"])
def test_the_code_of_a_statement_calls_it(id_):
    result = refute(id_, budget=0, **SAID.get(id_, {}))
    assert f'theory.theorems()["{id_}"].bound(**constants)' in result.code()
    assert rerun(result) == (result.worst.measured, result.worst.bound)


def test_stochastic_runs_are_exact_or_have_an_error():
    exact = refute("t6", budget=300, families=["paths"])
    assert exact.worst.error == 0
    assert "theory.expect(" in exact.code()
    averaged = refute("us", budget=0)
    assert (averaged.worst.error > 0) == ("seeds=range(" in averaged.code())


def test_equal_seeds_give_equal_results_and_others_do_not():
    one, same, other = (refute(hopeful, seed=seed, families=["cones"], **HOPEFUL) for seed in (1, 1, 2))
    assert one.worst == same.worst
    assert one.worst != other.worst


def test_two_workers_find_what_one_does(tmp_path):
    alone, both = (refute("t1", budget=400, workers=workers) for workers in (None, 2))
    assert alone.worst == both.worst
    assert alone.per_family == both.per_family


def test_it_goes_on_where_it_stopped(tmp_path):
    file, parts = tmp_path / "hunt.jsonl", []
    first = refute(hopeful, seconds=0.0, store=file, **HOPEFUL)
    assert not first.complete
    assert len(file.read_text().splitlines()) == 1
    whole = refute(hopeful, store=file, progress=lambda *state: parts.append(state), **HOPEFUL)
    assert whole.complete
    assert [state[:2] for state in parts] == [(2, 4), (3, 4), (4, 4)]
    assert parts[-1][2] == whole.ratio
    assert whole.worst == refute(hopeful, **HOPEFUL).worst
    again = refute(hopeful, store=file, progress=lambda *_: pytest.fail("computed again"), **HOPEFUL)
    assert again.worst == whole.worst


def test_another_bound_does_not_read_those_rows(tmp_path):
    def bolder(*, beta, mu, steps, delta, lr):
        return (1 - mu * lr) ** (2 * steps) * delta

    file = tmp_path / "hunt.jsonl"
    refute(hopeful, store=file, **HOPEFUL)
    parts = []
    refute(bolder, store=file, progress=lambda *state: parts.append(state), **HOPEFUL)
    assert len(parts) == 4


def test_ctrl_c_keeps_what_is_finished(tmp_path):
    def stop(done, *_):
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        refute(hopeful, store=tmp_path / "hunt.jsonl", progress=stop, **HOPEFUL)
    assert len((tmp_path / "hunt.jsonl").read_text().splitlines()) == 2


def test_the_record_is_json_and_the_text_says_the_numbers():
    result = refute(hopeful, **HOPEFUL)
    record = json.loads(json.dumps(result.record(), allow_nan=False))
    assert record["refuted"] is True
    assert record["worst"]["measured"] == result.worst.measured
    assert str(result).startswith("hopeful: E f(x_T) - f*, sam, strongly-convex: REFUTED\nworst measured/bound ")
    assert "refuted, worst ratio" in repr(result)


@pytest.mark.parametrize("ratio", [1 - 2**-53, 0.99997, 1.0, 1.00004, 1 + 2**-52])
def test_a_ratio_near_1_is_not_printed_as_1(ratio):
    result = replace(refute("t1", budget=60), ratio=ratio, per_family={"cones": ratio})
    by_family = re.search("by family: cones (.*)", str(result))[1]
    shown = [by_family, re.search("measured/bound (.*), from", str(result))[1], re.search("worst ratio (.*)>", repr(result))[1]]
    assert [float(text) - 1 for text in shown] == [pytest.approx(ratio - 1, rel=0.01)] * 3
    assert (by_family == "1") == (ratio == 1)


def test_a_bound_that_never_speaks_is_said_to():
    def silent(*, beta):
        raise ValueError("not here")

    result = refute(silent, **HOPEFUL)
    assert (result.refuted, result.ratio, result.worst) == (False, 0.0, None)
    assert "refused every run" in str(result)
    with pytest.raises(ValueError, match="applied to no run"):
        result.code()


def test_a_prescribed_step_size_is_used():
    def bound(*, beta, mu, steps, delta, rho):
        return theory.theorems()["t1d"].formula(beta=beta, mu=mu, rho=rho, steps=steps, delta=delta)

    claim = {"method": "sam", "assumptions": "strongly-convex", "quantity": "gap", "budget": 400}
    decayed = refute(bound, step_size=lambda *, beta, mu: theory.InverseTime(mu, 4 * beta / mu), **claim)
    assert not decayed.refuted
    assert refute(bound, **claim).refuted  # not for every lr


def unknown(*, beta, momentum):
    return beta


def positional(beta, /):
    return beta


def wrong(*, beta):
    return "large"


@pytest.mark.parametrize(
    ("bound", "change", "error", "message"),
    [
        (unknown, {}, TypeError, "takes 'momentum', which is no known constant"),
        (positional, {}, TypeError, "constants go by name"),
        (3.0, {}, TypeError, "must be a function"),
        (wrong, {}, TypeError, "returned 'large', a str; it must return a number"),
        (hopeful, {"method": None}, ValueError, "give method="),
        (hopeful, {"method": "adam"}, ValueError, "method='adam' must be one of gd, sgd, sam"),
        (hopeful, {"assumptions": "convex"}, ValueError, "takes mu, and convex functions have no mu"),
        (hopeful, {"quantity": "loss"}, ValueError, "quantity='loss' must be one of gap"),
        (hopeful, {"kappa": 0.5}, ValueError, "must be at least 1, low <= high"),
        (hopeful, {"kappa": (9, 2)}, ValueError, "low <= high"),
        (hopeful, {"steps": 2.5}, ValueError, "must be whole numbers"),
        (hopeful, {"rho": "large"}, TypeError, "must be a number, or a pair"),
        (hopeful, {"radius": "growing"}, ValueError, "radius='growing' must be one of constant"),
        (hopeful, {"method": "gd", "radius": "capped"}, ValueError, "gd has no radius"),
        (hopeful, {"method": "m-sam", "quantity": "least-squared-gradient"}, ValueError, "of deterministic methods"),
        (hopeful, {"families": ["paths"]}, ValueError, "family 'paths' must be one of shipped"),
        (hopeful, {"budget": -1}, ValueError, "budget=-1 must be"),
        (hopeful, {"budget": 1.5}, TypeError, "budget=1.5 must be an integer"),
        ("t99", {}, ValueError, "no statement 't99'"),
        ("c1", {}, ValueError, "no upper bound on a class"),
    ],
)  # fmt: skip
def test_what_cannot_be_meant_is_refused(bound, change, error, message):
    with pytest.raises(error, match=message):
        refute(bound, **HOPEFUL | change)


def test_nothing_is_said_where_there_is_no_matplotlib():
    """[lab] does not bring it, and cma says so when it is imported."""
    code = """
import sys
sys.modules["matplotlib"] = sys.modules["matplotlib.pyplot"] = None
import numpy as np
from sharpmin.theory._refute.evolve import strategy
strategy(np.full(2, 0.5), np.random.default_rng(0))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr == ""
