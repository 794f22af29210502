"""The numbers behind the figures: one frozen record per figure, computed by `theory.simulate` with fixed seeds.

`compute(quick)` makes all of them in a few seconds. The drawing is in `figures`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

from sharpmin.core.extras import optional
from sharpmin.core.rho import InverseSqrt, ProportionalToLR
from sharpmin.theory import InverseTime, problems, simulate, theorems

from . import _kappa
from ._virtual import Virtual, virtual

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from sharpmin.theory import Problem

    Array = NDArray[np.float64]
else:
    np = optional("numpy", extra="lab")

CONSTANT, DECAYING, RAW = "constant ρ", "decaying ρ", "unnormalized"
"""The three radii that the figures compare, by their names in the figures."""


@dataclass(frozen=True)
class Curve:
    """One run: y over t, with the name of the radius or quantity."""

    name: str
    t: Array
    y: Array


@dataclass(frozen=True)
class Trajectories:
    """Paths in the plane from one start: for each name the points x_t of shape (steps + 1, 2), and f at them."""

    paths: dict[str, Array]
    values: dict[str, Array]
    lr: float
    rho: float


@dataclass(frozen=True)
class Simulation:
    """Error against steps on one problem; `error` names the quantity."""

    problem: str
    label: str
    error: str
    curves: tuple[Curve, ...]


@dataclass(frozen=True)
class Rate:
    """The gap of T1 and T1d against T on the quadratic of curvature beta, with their bounds and that of T2."""

    kappa: float
    steps: Array
    measured: dict[str, Array]
    upper: dict[str, Array]
    lower: Array


@dataclass(frozen=True)
class TwoCycle:
    """Iterates on lam x^2/2 from several starts, shape (steps + 1, starts), and the radius that C1 gives."""

    iterates: Array
    radius: float
    lr: float
    lam: float
    rho: float


@dataclass(frozen=True)
class RhoFloor:
    """The error left after many steps, for each rho."""

    name: str
    error: str
    rho: Array
    floor: Array

    @property
    def slope(self) -> float:
        """The least squares slope of log error against log rho."""
        return float(np.polyfit(np.log(self.rho), np.log(self.floor), 1)[0])


@dataclass(frozen=True)
class Datasets:
    """Everything that `figures.draw` needs."""

    trajectories: Trajectories
    virtual: tuple[Virtual, ...]
    simulations: tuple[Simulation, ...]
    rates: tuple[Rate, ...]
    kappa: _kappa.Kappa
    two_cycle: TwoCycle
    floors: tuple[RhoFloor, ...]
    digits: Simulation


@cache
def compute(quick: bool = False) -> Datasets:
    """All datasets: about 5 s, or 2 s if quick (fewer steps and seeds); the same object at every call."""
    return Datasets(
        trajectories=trajectories(),
        virtual=virtual(),
        simulations=simulations(quick),
        rates=rates(quick),
        kappa=_kappa.compute(),
        two_cycle=two_cycle(),
        floors=floors(quick),
        digits=digits(quick),
    )


def times(steps: int, count: int = 40) -> list[int]:
    """About `count` steps from 1 to `steps`, evenly spread in the logarithm.

    >>> times(1000, 4)
    [1, 10, 100, 1000]
    """
    return sorted({round(t) for t in np.geomspace(1, steps, count)})


def trajectories(lr: float = 0.02, rho: float = 0.5, steps: int = 400) -> Trajectories:
    """Paths on f = (xy - 1)^2 from (2.6, 0.9)."""
    f, start, paths, values = problems()["product"](), [2.6, 0.9], {}, {}
    radii: dict[str, tuple[str, Any]] = {
        CONSTANT: ("sam", rho),
        DECAYING: ("sam", InverseSqrt(rho)),
        RAW: ("usam", rho / 8),
    }
    for name, (method, radius) in radii.items():
        run = simulate(f, method=method, lr=lr, rho=radius, steps=steps, x0=start, record=range(steps + 1), means=False)
        paths[name], values[name] = run.x.values[:, 0], run.value.values[:, 0]
    return Trajectories(paths, values, lr, rho)


def simulations(quick: bool) -> tuple[Simulation, ...]:
    """The three radii on the example functions: without noise at a constant lr, with noise at lr ~ 1/t."""
    make, steps, seeds = problems(), 2000 if quick else 10_000, 32 if quick else 128
    quadratic, trap = make["quadratic"](curvatures=[2.0]), make["trap"](theta=0.125, beta=1.0, rho=0.5)
    e1, e3 = make["e1"](beta=1.0, mu=0.1, rho=1.0), make["e3"](p=0.25, rho=0.5)
    plain: dict[str, Any] = {"quick": quick, "seeds": 1, "steps": 1000}
    noisy: dict[str, Any] = {"quick": quick, "seeds": seeds, "steps": steps}
    slope: dict[str, Any] = {"error": "squared gradient", "measure": lambda x: trap.gradient(x) ** 2}
    return (
        _simulation(quadratic, "Quadratic (C1), constant lr", "", lr=0.15, rho=0.4, x0=1.0, **plain),
        _simulation(trap, "TRAP, constant lr", "", lr=0.25, rho=0.5, x0=0.2, **plain, **slope),
        _simulation(e1, "E1, m-SAM, lr ∝ 1/t", "m-", lr=InverseTime(0.1, 20.0), rho=1.0, x0=3.1, **noisy),
        _simulation(e3, "E3, m-SAM, lr ∝ 1/t", "m-", lr=InverseTime(1.0, 2.0), rho=0.5, x0=2.0, **noisy),
    )


def _simulation(
    f: Problem, label: str, oracle: str, *, lr: Any, rho: float, x0: float, steps: int, seeds: int,
    quick: bool, error: str = "gap f(x) − f*", measure: Any = None,
) -> Simulation:  # fmt: skip
    decaying = ProportionalToLR(rho, lr=1 / f.beta_component, power=0.5) if callable(lr) else InverseSqrt(rho)
    radii = {CONSTANT: (f"{oracle}sam", rho), DECAYING: (f"{oracle}sam", decaying), RAW: (f"{oracle}usam", rho)}
    at, curves = times(steps, 30 if quick else 60), []
    for name, (method, radius) in radii.items():
        run = simulate(
            f, method=method, lr=lr, rho=radius, steps=steps, x0=np.full(seeds, x0), seeds=range(seeds), record=at, means=False
        )
        x = run.x.values
        errors = f.gap(x.ravel()) if measure is None else measure(x.ravel())
        curves.append(Curve(name, np.array(at, float), errors.reshape(x.shape).mean(axis=1)))
    return Simulation(f.name, label, error, tuple(curves))


def rates(quick: bool, rho: float = 0.5) -> tuple[Rate, ...]:
    """T1 at the step size prescribed for each T, and T1d at all t, on the quadratic of curvature beta = 1 from x0 = 1."""
    horizons = times(3000 if quick else 30_000, 14)[3:]
    quadratic, known, out = problems()["quadratic"](curvatures=[1.0]), theorems(), []
    for kappa in (2.0, 10.0):
        constants = {"beta": 1.0, "mu": 1 / kappa}
        at = [constants | {"rho": rho, "steps": steps, "delta": 0.5} for steps in horizons]
        common: dict[str, Any] = {"rho": rho, "steps": horizons[-1], "record": horizons, "means": False}
        one_lr_each = [known["t1"].step_size(**k) for k in at]
        horizon = simulate(quadratic, method="sam", lr=one_lr_each, x0=1.0, **common)
        anytime = simulate(quadratic, method="sam", lr=known["t1d"].step_size(**constants), x0=1.0, **common)
        lower = [known["t2"].bound(rho=rho, steps=steps, **constants) for steps in horizons]
        out.append(
            Rate(
                kappa,
                np.array(horizons, float),
                {"T1": np.diagonal(horizon.value.values).copy(), "T1d": anytime.value.values[:, 0]},
                {name: np.array([known[name.lower()].bound(**k) for k in at]) for name in ("T1", "T1d")},
                np.array(lower),
            )
        )
    return tuple(out)


def two_cycle(lam: float = 2.0, rho: float = 0.7, lr: float = 0.15, steps: int = 100) -> TwoCycle:
    """Runs from two starts on lam x^2/2, which end in opposite phases."""
    run = simulate(
        problems()["quadratic"](curvatures=[lam]), method="sam", lr=lr, rho=rho, steps=steps,
        x0=[1.0, -0.8], record=range(steps + 1), means=False,
    )  # fmt: skip
    return TwoCycle(run.x.values, lr * lam * rho / (2 - lr * lam), lr, lam, rho)


def floors(quick: bool) -> tuple[RhoFloor, ...]:
    """The error left after many steps: on one quadratic and one E3 for all rho; on the TRAP and the E1 of each rho.

    On E3 m-SAM is compared with SGD (rho = 0), whose mean is exact, on the same draws, so that the difference is due to rho.
    """
    rho, make = np.geomspace(0.01, 1.0, 7), problems()
    quadratic = make["quadratic"](curvatures=[2.0])
    cycle = simulate(quadratic, method="sam", lr=0.15, rho=rho, steps=2000, x0=0.7313, means=False)
    squares, gaps = [], []
    for r in (float(v) for v in rho):
        trap, e1 = make["trap"](theta=0.35, beta=1.0, rho=r), make["e1"](beta=1.0, mu=0.1, rho=r)
        run = simulate(trap, method="sam", lr=0.25, rho=r, steps=200, x0=0.1 * r, means=False)
        squares.append(float(trap.gradient(run.x_final.values)[0] ** 2))
        run = simulate(e1, method="m-sam", lr=0.5, rho=r, steps=200, x0=np.full(8, 3.1 * r), seeds=range(8), means=False)
        gaps.append(float(e1.gap(run.x_final.values).mean()))
    seeds, e3 = 200 if quick else 1000, make["e3"](p=0.1, rho=float(rho[-1]))
    lanes = np.append(np.repeat(rho, seeds), np.zeros(seeds))
    draws = np.tile(np.arange(seeds), len(rho) + 1)
    run = simulate(e3, method="m-sam", lr=0.02, rho=lanes, steps=400, x0=-0.8 * lanes, seeds=draws, means=False)
    final = run.x_final.values.reshape(-1, seeds)
    shift = e3.gradient((final[:-1] - final[-1]).mean(axis=1))
    return (
        RhoFloor("Quadratic (C1), SAM", "gap", rho, quadratic.gap(cycle.x_final.values)),
        RhoFloor("E1, m-SAM", "gap", rho, np.array(gaps)),
        RhoFloor("TRAP, SAM", "squared gradient", rho, np.array(squares)),
        RhoFloor("E3, m-SAM", "squared gradient", rho, shift**2),
    )


def digits(quick: bool, rho: float = 0.5) -> Simulation:
    """The gap of softmax regression on the digits, lr ~ 1/t, batches of 32 and full batch."""
    f, steps, seeds = problems()["digits"](), 800 if quick else 4000, 2
    lr = InverseTime(f.mu, 2 * f.beta / f.mu)
    decaying = ProportionalToLR(rho, lr=1 / f.beta, power=0.5)
    runs: dict[str, tuple[str, Any, int, int]] = {
        CONSTANT: ("m-sam", rho, seeds, steps),
        DECAYING: ("m-sam", decaying, seeds, steps),
        "full batch, constant ρ": ("sam", rho, 1, min(steps, 1000)),
    }
    curves = []
    for name, (method, radius, lanes, length) in runs.items():
        at = times(length, 16 if quick else 28)
        run = simulate(
            f, method=method, lr=lr, rho=radius, steps=length, x0=np.zeros((lanes, f.dim)), seeds=range(lanes), record=at,
            means=False,
        )  # fmt: skip
        curves.append(Curve(name, np.array(at, float), run.value.values.mean(axis=1) - f.f_star))
    return Simulation("digits", f"Digits, ρ = {rho:g}", "gap f(W) − f*", tuple(curves))
