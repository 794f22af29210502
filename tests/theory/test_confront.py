"""`confront` makes the cell that a reader would make by hand from `simulate` and the bound."""

from dataclasses import replace

import numpy as np
import pytest

from sharpmin.rho import Cosine
from sharpmin.theory import expect, own, problems, simulate, statistic, theorems
from sharpmin.theory._statements.confront import confront
from sharpmin.theory._statements.situation import QUANTITIES
from sharpmin.theory._statements.statistic import distance, start_gap

T = theorems()
STRONG = {"beta": 2.0, "mu": 2.0, "rho": 0.3, "steps": 7, "delta": 1.0, "lr": 0.25}
NOISY = {"beta": 1.0, "sigma": 1.0, "rho": 0.5, "steps": 40, "delta": 0.0, "lr": 0.1, "oracle": "n-sam"}


def by_hand(run, f, quantity):
    x = run.x_final.values
    return {
        "gap": f.gap(x),
        "mean-gap": sum(f.gap(at) for at in run.x.values[:-1]) / (len(run.x) - 1),
        "squared-gradient": run.mean_square_gradient.values,
        "least-squared-gradient": run.min_square_gradient.values,
        "perturbed-gap": run.mean_perturbed_gap.values,
        "squared-distance": x**2,
    }[quantity]


@pytest.mark.parametrize("quantity", QUANTITIES)
def test_the_mean_over_lanes_with_its_standard_error(quantity):
    f = problems()["e3"](p=0.5, rho=0.5, c=1.0)
    cell = confront(T["t5"], "here", f, NOISY, method="n-sam", x0=0.7, seeds=9, quantity=quantity, trivial=3.0)
    run = simulate(f, method="n-sam", lr=0.1, rho=0.5, steps=40, x0=0.7, seeds=range(9), record=range(41))
    values = by_hand(run, f, quantity)
    assert cell.measured == pytest.approx(sum(values) / 9, rel=1e-14)
    assert cell.error == pytest.approx((sum((v - sum(values) / 9) ** 2 for v in values) / 8 / 9) ** 0.5, rel=1e-12)
    assert (cell.instance, cell.relation, cell.trivial, cell.bound) == ("here", "<=", 3.0, T["t5"].bound(**NOISY))


@pytest.mark.parametrize(("relation", "reduce"), [("<=", max), (">=", min)])
def test_the_worst_lane_has_no_error(relation, reduce):
    f = problems()["e3"](p=0.5, rho=0.5, c=1.0)
    cell = confront(T["t5"], "", f, NOISY, method="n-sam", x0=0.7, seeds=9, worst=True, relation=relation)
    run = simulate(f, method="n-sam", lr=0.1, rho=0.5, steps=40, x0=0.7, seeds=range(9))
    assert (cell.measured, cell.error) == (reduce(run.mean_square_gradient.values), 0.0)


def test_what_is_measured_is_what_the_rule_says():
    f, k = problems()["quadratic"](curvatures=[2.0]), STRONG
    run = simulate(f, method="sam", lr=0.25, rho=0.3, steps=7, x0=1.0)
    assert T["t1"].rule.quantity == "gap"
    assert confront(T["t1"], "", f, k, x0=1.0).measured == f.gap(run.x_final.values)[0]
    convex = {name: value for name, value in k.items() if name != "mu"}
    assert T["t3b"].rule.quantity == "least-squared-gradient"
    assert confront(T["t3b"], "", f, convex, x0=1.0).measured == run.min_square_gradient.values[0]


def test_a_statement_on_a_sum_is_compared_with_the_sum():
    f, rho = problems()["quadratic"](curvatures=[2.0]), Cosine(0.3, steps=20)
    k = {"beta": 2.0, "rho": rho, "steps": 20, "delta": 1.0}
    run = simulate(f, method="sam", lr=0.5, rho=rho, steps=20, x0=1.0)
    assert T["d1"].rule.per_step
    assert confront(T["d1"], "", f, k, lr=0.5, x0=1.0).measured == 20 * run.mean_square_gradient.values[0]


def test_what_is_given_goes_before_the_constants():
    f = problems()["quadratic"](curvatures=[2.0])
    cell = confront(T["t1"], "", f, STRONG, x0=1.0, steps=3, lr=0.1, rho=0.2, clip=0.5, method="usam")
    run = simulate(f, method="usam", lr=0.1, rho=0.2, steps=3, x0=1.0, clip=0.5)
    assert (cell.measured, cell.bound) == (f.gap(run.x_final.values)[0], T["t1"].bound(**STRONG))


def test_a_mutant_is_asked_for_its_own_bound():
    wrong = replace(T["t1"], formula=lambda **_: 0.25)
    assert confront(wrong, "", problems()["quadratic"](curvatures=[2.0]), STRONG, x0=1.0).bound == 0.25


def test_a_run_without_a_step_size_is_refused():
    k = {name: value for name, value in STRONG.items() if name not in ("lr", "steps")}
    with pytest.raises(TypeError, match=r"t1: confront\('here'\) needs steps and lr, as keyword or among the constants"):
        confront(T["t1"], "here", problems()["quadratic"](curvatures=[2.0]), k, x0=1.0)


@pytest.mark.parametrize(("quantity", "subtracts"), [("gap", True), ("perturbed-gap", True), ("squared-gradient", False)])
def test_differences_of_values_are_rounded_and_squares_are_not(quantity, subtracts):
    f = problems()["trap"](theta=0.125, beta=2.0, rho=0.5)
    cell = confront(T["t1"], "", f, STRONG, x0=0.0, quantity=quantity)
    assert f.resolution > 0
    assert cell.resolution == (f.resolution if subtracts else 0.0)


def test_distance_to_the_nearest_minimizer_and_the_gap_at_a_start():
    trap = problems()["trap"](theta=0.125, beta=2.0, rho=0.5)
    least, most = trap.minimizers[0], trap.minimizers[-1]
    x = np.array([least - 2.0, least, (least + most) / 2, most, most + 1.0])
    assert distance(trap, x).tolist() == pytest.approx([2.0, 0.0, 0.0, 0.0, 1.0])
    flat = problems()["quadratic"](curvatures=[1.0, 2.0])
    assert distance(flat, np.array([[3.0, 4.0]])).tolist() == [5.0]
    assert start_gap(trap, 0.2) == trap.gap(np.array([0.2]))[0] > 0


def test_a_distance_is_not_taken_to_a_point_that_is_no_minimizer():
    shifted = own(value=lambda x: float((x - 1) @ (x - 1)), gradient=lambda x: 2 * (x - 1), dim=2, beta=2.0, mu=2.0, f_star=0.0)
    run = simulate(shifted, method="gd", lr=0.25, steps=1, x0=np.array([[3.0, 1.0]]))
    with pytest.raises(ValueError, match=r"no minimizer is known, and 0 has a gradient of 2\.83"):
        statistic(shifted, run, "squared-distance")
    assert distance(shifted, run.x_final.values, minimizer=[1.0, 1.0]) == pytest.approx([1.0])
    assert "squared-distance" not in expect(shifted, method="gd", lr=0.25, steps=1, x0=[3.0, 1.0])
    with pytest.raises(ValueError, match="quantity='gaps' must be one of gap, mean-gap"):
        statistic(shifted, run, "gaps")
