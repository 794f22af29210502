"""What `plan` refuses and why, and what it does without."""

import math
import subprocess
import sys

import pytest

from sharpmin.core.rho import InverseSqrt
from sharpmin.theory import plan

SAYS = {"setting": "pl", "oracle": "m-sam", "beta": 1.0, "mu": 0.1, "sigma": 0.1, "delta": 1.0}
BAD = [
    ({"setting": "smooth"}, ValueError, "setting='smooth' must be one of"),
    ({"oracle": "sgd"}, ValueError, "oracle='sgd' must be one of"),
    ({"radius": "cosine"}, ValueError, "radius='cosine' must be one of"),
    ({"quantity": "loss"}, ValueError, "quantity='loss' must be one of"),
    ({"quantity": "squared-distance"}, ValueError, "none bounds quantity='squared-distance'"),
    ({"sigma": None}, ValueError, "needs sigma="),
    ({"mu": None}, ValueError, "needs mu="),
    ({"oracle": "exact"}, ValueError, "full gradients have no noise"),
    ({"rho": InverseSqrt(0.1)}, TypeError, "give a number, and radius="),
    ({"rho": -1.0}, ValueError, "rho=-1"),
    ({"beta": math.nan}, ValueError, "beta=nan"),
    ({"beta": "1"}, TypeError, "beta='1'"),
    ({"mu": 2.0}, ValueError, "mu=2 exceeds beta=1"),
    ({"steps": 0}, ValueError, "steps=0"),
    ({"steps": 1.5}, TypeError, "steps=1.5"),
    ({"lr": 1.5}, ValueError, "lr=1.5 must be at most 1/beta"),
    ({"c": 0.1}, ValueError, "c=0.1 belongs to radius='capped'"),
    ({"clip": 0.1}, ValueError, "clip=0.1 belongs to radius='clipped'"),
    ({"radius": "clipped", "clip": 1.0}, ValueError, r"clip=1.0 \(theta\) must be in"),
    ({"accuracy": 0.0}, ValueError, "accuracy=0.0"),
    ({"accuracy": "high"}, TypeError, "accuracy='high'"),
    ({"oracle": "n-sam", "radius": "clipped"}, ValueError, "no statement applies .* differ by their noise"),
    ({"radius": "unnormalized", "rho": 1.0}, ValueError, "no statement applies .* must be below 1"),
    (
        {"radius": "decaying", "lr": 1.5, "quantity": "gap"},
        ValueError,
        "prescribes its step size; leave out lr.*t6: lr=1.5 must",
    ),
    ({"oracle": "n-sam", "quantity": "squared-distance", "setting": "strongly-convex"}, ValueError, "t8: it needs distance="),
]


@pytest.mark.parametrize(("changes", "kind", "message"), BAD)
def test_what_is_refused_and_why(changes, kind, message):
    with pytest.raises(kind, match=message) as error:
        plan(**{**SAYS, "rho": 0.05, "steps": 100, **changes})
    assert "\n" not in str(error.value)


def test_it_needs_no_laboratory():
    code = """
import sys
for name in ("numpy", "numba", "xarray", "scipy", "typer", "rich"):
    sys.modules[name] = None
from sharpmin import theory
print(theory.plan(setting="pl", oracle="n-sam", beta=1.0, mu=0.1, sigma=0.1, rho=0.05, steps=100, delta=1.0).ids[0])
"""
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "t6\n"
