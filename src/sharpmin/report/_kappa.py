"""The numbers behind the figure on kappa: the share of T1's floor F that three functions reach, and the path to a two-cycle."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sharpmin.core.extras import optional
from sharpmin.theory import problems, simulate, theorems
from sharpmin.theory._problems.wedge import cycle
from sharpmin.theory._theorems.kappa2 import start, supremum
from sharpmin.theory._theorems.t1 import floor

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Array = NDArray[np.float64]
else:
    np = optional("numpy", extra="lab")

STEPS = 200


@dataclass(frozen=True)
class Shares:
    """The gap on the two-cycle after many steps, divided by F, against kappa, at beta = rho = 1 and lr = 0.1/kappa.

    `supremum` is from a formula: the limit lr -> 0 of the worst function of the family of KAPPA2.
    """

    kappa: Array
    measured: dict[str, Array]
    supremum: Array


@dataclass(frozen=True)
class Path:
    """SAM on KAPPA2: the points x_t and y_t of shape (steps, 2), f on a grid of the plane, and its minimizer."""

    kappa: float
    lr: float
    x: Array
    y: Array
    across: Array
    up: Array
    height: Array
    minimizer: tuple[float, float]


@dataclass(frozen=True)
class Kappa:
    """The data of both panels."""

    shares: Shares
    path: Path


def compute() -> Kappa:
    """Both datasets, in less than a second."""
    return Kappa(shares(), path())


def shares() -> Shares:
    """The shares for kappa from 5 to 1e5. The slope of each wedge is the worst of a grid."""
    kappas, make, found = np.geomspace(5, 1e5, 11), problems(), dict[str, list[float]]()
    for k in (float(v) for v in kappas):
        given: dict[str, Any] = {"beta": 1.0, "mu": 1 / k, "rho": 1.0, "lr": 0.1 / k}
        bound = theorems()["wedge"].bound
        slope = max((float(s) for s in np.linspace(0.4, 0.8, 21)), key=lambda s: bound(slope=s, **given))
        point, _ = cycle("wedge", slope=slope, **given)
        starts = {
            "quadratic (C1)": (make["quadratic"](curvatures=[1.0]), given["lr"] / (2 - given["lr"])),
            "wedge": (make["wedge"](slope=slope, **given), point),
            "KAPPA2": (make["kappa2"](**given), start(beta=1.0, rho=1.0, lr=given["lr"])),
        }
        for name, (f, x0) in starts.items():
            run = simulate(f, method="sam", lr=given["lr"], rho=1.0, steps=STEPS, x0=x0, means=False)
            left = float(f.gap(run.x_final.values)[0]) / floor(**given)
            found.setdefault(name, []).append(left)
    return Shares(kappas, {name: np.array(v) for name, v in found.items()}, np.array([supremum(float(k)) for k in kappas]))


def path(kappa: float = 30.0, lr: float = 0.09, steps: int = 1500) -> Path:
    """A run from (-0.5, 0.4): SAM comes close to the minimizer, then moves away and up to the two-cycle."""
    f = problems()["kappa2"](beta=1.0, mu=1 / kappa, rho=1.0, lr=lr)
    run = simulate(f, method="sam", lr=lr, rho=1.0, steps=steps, x0=[-0.5, 0.4], record=range(steps), means=False)
    x = run.x.values[:, 0]
    g = f.gradient(x)
    across, up = np.linspace(-0.85, 0.85, 80), np.linspace(-1.1, 1.1, 80)
    grid = np.stack(np.meshgrid(across, up), axis=-1).reshape(-1, 2)
    least = -start(beta=1.0, rho=1.0, lr=lr)[1] * 0.75 * kappa  # x_* = -q e_1/mu, and x_+ is q e_2 high
    return Path(kappa, lr, x, x + g / f.norm(g)[:, None], across, up, f.value(grid).reshape(80, 80), (least, 0.0))
