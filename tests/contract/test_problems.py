"""What every problem owes: consistent shapes, a gradient that is the mean over samples, and an import line."""

import re
from pathlib import Path

import numpy as np
import pytest

import sharpmin.theory._problems as folder
from sharpmin.theory import problems

ARGUMENTS = {
    "digits": {},
    "e1": {"beta": 1.0, "mu": 0.1, "rho": 1.0},
    "e2": {"beta": 2.0, "mu": 0.5, "rho": 0.3},
    "e3": {"p": 0.1, "rho": 1.0},
    "e4": {"beta": 1.0, "rho": 1.0, "d": 3.0},
    "e5": {"theta": 0.25, "s": 0.1, "beta": 1.0, "rho": 1.0},
    "kappa2": {"beta": 2.0, "mu": 0.1, "rho": 0.5, "lr": 0.05},
    "logcosh": {"beta": 1.0, "mu": 0.1, "dim": 3},
    "pl-trap": {"mu": 0.5, "rho": 1.0},
    "product": {},
    "quadratic": {"curvatures": [1.0, 4.0]},
    "trap": {"theta": 0.125, "beta": 2.0, "rho": 0.5},
    "trap-lipschitz": {"theta": 0.125, "beta": 2.0, "rho": 0.5},
    "trap-smooth": {"beta": 2.0, "rho": 0.5},
    "us": {"h1": 1.0, "h2": 0.2},
    "wedge": {"beta": 2.0, "mu": 0.1, "rho": 0.5, "lr": 0.01, "slope": 0.65},
}


def test_every_problem_is_tried_here():
    assert ARGUMENTS.keys() == problems().keys()


@pytest.fixture(params=ARGUMENTS)
def problem(request):
    return problems()[request.param](**ARGUMENTS[request.param])


def points(problem, lanes=3):
    x = np.random.default_rng(0).normal(0, 0.3, (lanes, problem.dim))
    return x[:, 0] if problem.dim == 1 else x


def test_shapes(problem):
    x = points(problem)
    assert problem.value(x).shape == problem.gap(x).shape == problem.norm(problem.gradient(x)).shape == (3,)
    assert problem.gradient(x).shape == x.shape
    draw = problem.draw(np.full((3, problem.batch), 0.5))
    assert problem.sample_gradient(x, draw).shape == x.shape


def test_the_gap_is_not_negative_and_constants_are_ordered(problem):
    assert (problem.gap(points(problem, 50)) >= -problem.resolution).all()
    assert 0 <= problem.mu <= problem.beta <= problem.beta_component or problem.beta == np.inf
    assert problem.pl >= problem.mu


def test_gradients_are_beta_lipschitz(problem):
    x = points(problem, 200)
    y = x + 1e-3 * points(problem, 200)[::-1]
    moved = problem.norm(problem.gradient(x) - problem.gradient(y))
    assert (moved <= problem.beta * problem.norm(x - y) * (1 + 1e-9)).all()


def test_descent_along_the_gradient(problem):
    """f(x - h g) = f(x) - h ||g||^2 + O(h^2): value and gradient belong together."""
    x, h = points(problem), 1e-6
    g = problem.gradient(x)
    slope = (problem.value(x + h * g) - problem.value(x - h * g)) / (2 * h)
    assert np.allclose(slope, problem.norm(g) ** 2, rtol=1e-5, atol=1e-8)


def test_every_file_that_registers_a_problem_is_imported():
    source = Path(folder.__file__).read_text()
    paths = [path for path in Path(folder.__file__).parent.glob("*.py") if "\n@problem(" in path.read_text()]
    assert len(paths) == len(problems())
    assert {path.stem for path in paths if not re.search(rf"\b{path.stem}\b", source)} == set()
