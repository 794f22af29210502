"""What `own` and `examine` refuse, what they take, and what they say of numbers too large, too small or too coarse."""

import math
from fractions import Fraction

import numpy as np
import pytest
import torch

from sharpmin.theory import examine, own, problems, simulate

TWO = own(value=lambda x, i: x @ x, gradient=lambda x, i: 2 * x, dim=2, samples=4, beta=2.0, sigma=0.0, f_star=0.0)
F = {"value": lambda x: x * x, "gradient": lambda x: 2 * x, "beta": 2.0, "f_star": 0.0}
BAD_OWN = [
    ({**F, "beta": None}, ValueError, "need beta="),
    ({**F, "f_star": None}, ValueError, "need f_star="),
    ({**F, "samples": 3}, ValueError, "need sigma="),
    ({**F, "f_star": math.inf}, ValueError, "f_star=inf"),
    ({**F, "beta": -1.0}, ValueError, "beta=-1"),
    ({**F, "mu": 3.0}, ValueError, "mu=3 exceeds beta=2"),
    ({**F, "pl": 3.0}, ValueError, "pl=3 exceeds beta=2"),
    ({**F, "beta": "2"}, TypeError, "beta='2'"),
    ({**F, "dim": 0}, TypeError, "dim=0"),
    ({**F, "samples": 1.5}, TypeError, "samples=1.5"),
    ({**F, "gradient": None}, TypeError, "give value= and gradient="),
    ({**F, "loss": lambda w: w}, TypeError, "give value= and gradient="),
    ({**F, "probabilities": [1.0]}, TypeError, "probabilities= belongs to hinges="),
    ({"hinges": [(0.0, 1.0, [])], "beta": 1.0}, TypeError, "leave out beta"),
    ({"hinges": [(0.0, 1.0, [])], "dim": 2}, TypeError, "whole 1-D problem"),
    ({"hinges": [0.0, 1.0]}, TypeError, "must hold a Hinge or"),
    ({"hinges": [(0.0, 1.0, [])], "probabilities": [0.5]}, ValueError, "probabilities="),
    ({"hinges": []}, ValueError, "probabilities="),
    ({**F, "mu": -1}, ValueError, "own: mu=-1; mu must be a finite number >= 0"),
    ({**F, "mu": "1"}, TypeError, "own: mu='1' is a str"),
    ({**F, "pl": -1}, ValueError, "own: pl=-1; pl must be a finite number >= 0"),
    ({**F, "sigma": -1}, ValueError, "own: sigma=-1; sigma must be a finite number >= 0"),
    ({**F, "beta_component": 0}, ValueError, "beta_component=0; beta_component must be a finite number > 0"),
    ({**F, "f_star": "0"}, TypeError, "f_star='0' is a str; f_star must be a finite number$"),
    ({**F, "f_star": True}, TypeError, "f_star=True is a bool"),
    ({**F, "f_star": 10**400}, ValueError, "f_star=inf"),
    ({"hinges": [(0.0, 1.0, []), (math.nan, 1.0, [])]}, ValueError, r"hinges\[1\]=\(nan, 1.0, \[\]\); every a, b, t and c"),
    ({"hinges": [(0.0, math.inf, [])]}, ValueError, "must be a finite number"),
    ({"hinges": [(0.0, 1.0, [(math.nan, 1.0)])]}, ValueError, "must be a finite number"),
    ({"hinges": [(0.0, 1.0, [(0.0, -math.inf)])]}, ValueError, "must be a finite number"),
    ({"hinges": [(10**400, 1.0, [])]}, ValueError, r"hinges\[0\]=\(inf, 1.0, \[\]\)"),
    ({"hinges": [(1e200, 1e-200, [])]}, ValueError, "own: the numbers lead beyond floating point"),
    ({"hinges": [(0.0, 1.0, [])], "probabilities": [math.nan]}, ValueError, r"probabilities\[0\]=nan"),
    ({"hinges": [(0.0, 1.0, [])], "probabilities": "a"}, TypeError, "probabilities='a' must be a list of numbers"),
    ({"hinges": [(0.0, 1.0, [])], "probabilities": 1.0}, TypeError, "probabilities=1.0 must be a list of numbers"),
]


@pytest.mark.parametrize(("keywords", "kind", "message"), BAD_OWN)
def test_what_own_refuses(keywords, kind, message):
    with pytest.raises(kind, match=message):
        own(**keywords)


def test_functions_of_the_wrong_shape():
    x = np.zeros((1, 2))
    with pytest.raises(TypeError, match=r"gradient returned shape \(3,\); it must return shape \(2,\)"):
        own(value=lambda x: 0.0, gradient=lambda x: np.zeros(3), dim=2, beta=1.0, f_star=0.0).gradient(x)
    with pytest.raises(TypeError, match=r"value returned shape \(2,\)"):
        own(value=lambda x: x, gradient=lambda x: x, dim=2, beta=1.0, f_star=0.0).value(x)
    with pytest.raises(TypeError, match="scalar tensor"):
        own(loss=lambda w: w, dim=2, beta=1.0, f_star=0.0).value(x)


THREE, OTHER = torch.tensor(3.0, dtype=torch.float64), torch.ones(1, dtype=torch.float64, requires_grad=True)


@pytest.mark.parametrize(
    "loss", [lambda w: THREE, lambda w: THREE * OTHER, lambda w: (THREE * OTHER).sum() + 0 * w.detach().sum()]
)
def test_a_torch_loss_that_does_not_look_at_w_has_gradient_0(loss):
    f = own(loss=loss, dim=2, beta=1.0, f_star=3.0)
    assert f.gradient(np.ones((1, 2))).tolist() == [[0.0, 0.0]]
    assert f.gap(np.ones((1, 2))).tolist() == [0.0]


SINGLE = [
    (
        {"loss": lambda w: (w.float() ** 2).sum()},
        r"loss returned torch.float32; it must return torch.float64.* with \.double\(\)",
    ),
    ({"value": lambda x: np.float32(x * x), "gradient": lambda x: 2 * x}, "value returned float32; it must return float64"),
    ({"value": lambda x: x * x, "gradient": lambda x: np.float16(2 * x)}, "gradient returned float16; it must return float64"),
    ({"value": lambda x: "x", "gradient": lambda x: 2 * x}, "value returned <U1; it must return float64"),
]


@pytest.mark.parametrize(("functions", "message"), SINGLE)
def test_single_precision_is_refused_and_not_called_a_wrong_constant(functions, message):
    with pytest.raises(TypeError, match=message):
        examine(own(**functions, beta=2.0, f_star=0.0), x0=1.0)


@pytest.mark.parametrize("kind", [float, int, np.float32, np.float64, np.int64, Fraction])
def test_constants_are_any_real_numbers(kind):
    f = own(
        **{**F, "beta": kind(2), "mu": kind(1), "pl": kind(1), "sigma": kind(3), "f_star": kind(-4)}, beta_component=kind(5)
    )
    assert (f.beta, f.mu, f.pl, f.sigma, f.f_star, f.beta_component) == (2.0, 1.0, 1.0, 3.0, -4.0, 5.0)
    assert {type(v) for v in (f.beta, f.mu, f.pl, f.sigma, f.f_star, f.beta_component)} == {float}


DIVERGING = [
    own(value=lambda x: x**4, gradient=lambda x: 4 * x**3, beta=1e-3, f_star=0.0),
    own(value=lambda x: math.exp(x * x), gradient=lambda x: 2 * x * math.exp(x * x), beta=1e-3, f_star=1.0),  # OverflowError
    own(value=lambda x, i: x * abs(x) ** 3 * (-1) ** i, gradient=lambda x, i: 4 * abs(x) ** 3 * (-1) ** i, samples=2,
        beta=1e-3, sigma=1.0, f_star=0.0),  # inf - inf
]  # fmt: skip


@pytest.mark.parametrize("problem", DIVERGING)
def test_runs_that_diverge_refute_the_smoothness_without_a_warning(problem):
    """Warnings are errors here. What overflows is no evidence about the constants: the gradient does belong to the value."""
    found = examine(problem, x0=3.0, steps=50)
    assert {c.name for c in found.wrong} <= {"beta", "sigma", "beta_component"}
    assert "beta" in [c.name for c in found.wrong] or problem.samples == 2
    x = simulate(problem, method="gd" if problem.samples == 1 else "sgd", lr=1.0, steps=50, x0=3.0, record=[50])
    assert not np.isfinite(x.value.values).all()


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_examine_starts_where_f_is_a_number(value):
    with pytest.raises(ValueError, match="choose x0 where both are numbers"):
        examine(own(value=lambda x: value, gradient=lambda x: 2 * x, beta=2.0, f_star=0.0), x0=1.0)


def test_a_bound_below_rounding_is_not_said_to_hold():
    """(x - 1)^2 loses everything below 1e-16 near 1: after 2000 steps at lr = 1/beta the bounds are far below."""
    f = own(value=lambda x: (x - 1) ** 2 + 1.0, gradient=lambda x: 2 * (x - 1), beta=2.0, mu=2.0, f_star=1.0)
    rows = {row.radius: row for row in examine(f, x0=3.3, steps=2000).bounds}
    for radius in ("unnormalized", "clipped"):
        row = rows[radius]
        assert (row.holds, row.vacuous, row.rounding) == (True, True, pytest.approx(1e-13))
        assert row.bound < row.rounding
        assert row.verdict == "vacuous (rounding alone is 1e-13)"
    assert rows["constant"].bound > 1e-10
    assert rows["constant"].verdict == "holds"
    exact = examine(problems()["quadratic"](curvatures=[2.0]), x0=3.3, steps=200).bounds  # f* = 0 at 0: nothing is subtracted
    assert {row.verdict for row in exact} == {"holds"}


def test_a_problem_without_slope_has_no_bound():
    found = examine(own(hinges=[(0.0, 0.0, [])]), x0=1.0)
    assert (found.bounds, found.holds) == ((), True)
    assert {reason.split(": ")[1] for reason in found.silent} == {"beta=0 must be finite and > 0"}


BAD_EXAMINE = [
    ({"x0": [1.0, 2.0, 3.0]}, "needs finite numbers of shape"),
    ({"x0": [math.nan, 0.0]}, "needs finite numbers of shape"),
    ({"steps": 0}, "steps=0"),
    ({"seeds": 1}, "seeds=1 must be an integer >= 2"),
    ({"pairs": 0}, "pairs=0"),
    ({"reach": 0.0}, "reach=0.0"),
    ({"rho": -0.1}, "rho=-0.1"),
    ({"x0": "abc"}, "x0='abc'; .* needs finite numbers of shape"),
    ({"seeds": 10**12}, "1000000000000 lanes need at least"),
]


@pytest.mark.parametrize(("keywords", "message"), BAD_EXAMINE)
def test_what_examine_refuses(keywords, message):
    with pytest.raises(ValueError, match=message):
        examine(TWO, **{"x0": [0.0, 0.0], **keywords})
