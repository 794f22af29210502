"""What a notebook shows of a result that is not printed: one line with its main numbers."""

import pytest

from sharpmin import study, theory
from sharpmin.diagnostics import LayerShares, LossSlice, RhoPoint, RhoRange, Toggle
from sharpmin.diagnostics._rho.rules import Claims
from sharpmin.diagnostics._run.state import State
from sharpmin.diagnostics._run.verdict import Diagnosis
from sharpmin.diagnostics.toggle import Difference
from sharpmin.study import Estimate

from .diagnostics.test_print import NUMBERS, SAID, WINDOW

POINTS = tuple(RhoPoint(rho, (0.5, 0.75), shares={f"layer {i}": 0.01 for i in range(100)}) for rho in (0.01, 0.02, 0.05))
NAMES = tuple(f"layer {i}" for i in range(100))
SHOWN = {
    "<Window of 2 blocks: steps 100 to 299, rho 0.1, lr 0.01>": lambda: WINDOW,
    "<Numbers: loss 0.25, predicted fall 0.011 within 38 steps of rho = 0>": lambda: NUMBERS,
    "<Diagnosis: rho holds the loss up, a clear effect; steps 100 to 299, loss 0.25, predicted fall 0.011 within 38 steps "
    "of rho = 0>": lambda: Diagnosis(State.HOLDS, SAID, NUMBERS, WINDOW, None, ["a remark"]),
    "<RhoPoint: rho 0.01, loss 0.625 at w>": lambda: POINTS[0],
    "<RhoRange: 3 radii from 0.01 to 0.05; the value to try first is 0.05>": lambda: RhoRange(
        POINTS, (0.5,) * 100, 60, Claims(0.01, 0.02, 0.05, "the usual one", True, ()), 10
    ),
    "<Toggle of 100 steps; rho = 0: 0.03 lower, lr / 2: -0.01 lower>": lambda: Toggle(
        {"rho": [0.5] * 100},
        {"rho = 0": Difference(0.03, (0.02, 0.04)), "lr / 2": Difference(-0.01, (-0.02, 0.0))},
    ),
    "<LossSlice along ascent: 21 points each, from -0.1 to 0.1>": lambda: LossSlice(
        ("ascent",), tuple((i - 10) / 100 for i in range(21)), (0.5,) * 21
    ),
    "<LayerShares of 100 parameters>": lambda: LayerShares(NAMES, (1,) * 100, (0.01,) * 100, (0.01,) * 100),
    "<Line sam, 20% label noise: accuracy 97.0 ± 1.0 % in 3 runs>": lambda: study.Line(
        "sam", 0.2, 0.1, 0.05, (), 3, 2.0, 2.0, 1.0, Estimate(0.5, 0.1), Estimate(0.5, 0.1), 0.9, Estimate(0.97, 0.01),
        Estimate(0.01, 0.01), 0,
    ),
    "<Plan exact, strongly-convex, constant radius, 100 steps: gap <= 0.003189 (t1)>": lambda: theory.plan(
        setting="strongly-convex", oracle="exact", beta=1.0, mu=0.1, steps=100, delta=1.0, rho=0.1
    ),
    "<Verdict trap: holds; 36 cells, the closest: 0.98 == 0.98 (trap, theta 0.01, lr 0.25, x0 -0.005)>": lambda: (
        theory.verify("trap")
    ),
    "<Examination of trap: 3 claims, 5 bounds, nothing refuted>": lambda: theory.examine(
        theory.problems()["trap"](theta=0.125, beta=2.0, rho=0.5), x0=0.2
    ),
}  # fmt: skip


@pytest.mark.parametrize("shown", SHOWN)
def test_repr(shown):
    assert repr(SHOWN[shown]()) == shown
