"""The shipped instances as an attack: each at a grid of settings, from the start where it is worst."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING, Any

from sharpmin.core.extras import optional

from .._problems import problems
from .._problems.hinge import HingeProblem
from .._simulation.oracle import Oracle
from .._simulation.simulate import simulate
from .._statements.statistic import kept, statistic
from .conjecture import WITH_MU, Conjecture
from .genes import Constants, constants_of, radii_of, radius_object, step_sizes
from .hinges import known
from .instance import Found, confirm, deterministic, function_constants
from .limits import limits_of
from .population import Runs, measure

if TYPE_CHECKING:
    import numpy as np

    from .._problems.problem import Array
else:
    np = optional("numpy", extra="lab")

LONGEST = 1000
"""The largest T of a deterministic run."""

NOISY_LONGEST = 300
SEEDS = 400
"""The number of seeds that a mean of random runs is taken over."""

FEW = 16

NEAR = 0.3
"""Random runs whose ratio from a few seeds is below this are not repeated with many."""

DIVERGES = 1e9
"""Runs with a larger ratio count as diverging and are left out, since their variance would overflow."""


@dataclass(frozen=True)
class Candidate:
    """A problem by name, its starts, and the constants claimed for it."""

    name: str
    arguments: tuple[tuple[str, Any], ...]
    starts: tuple[float, ...]
    beta: float
    mu: float

    @classmethod
    def of(cls, name: str, starts: Sequence[float], claims: tuple[float, float], **arguments: Any) -> Candidate:
        """A candidate with the problem's arguments as keywords; the claims are beta and mu."""
        return cls(name, tuple(arguments.items()), tuple(starts), *claims)

    @property
    def problem(self) -> tuple[Any, ...]:
        """What `build` builds: equal for cases that differ in their starts and claims alone."""
        return self.name, self.arguments

    @property
    def source(self) -> str:
        """Python code that builds the problem."""
        arguments = ", ".join(f"{key}={value!r}" for key, value in self.arguments if value is not None)
        return f'f = theory.problems()["{self.name}"]({arguments})'

    def build(self) -> HingeProblem:
        """The problem; raises `TypeError` unless it is a sum of hinges."""
        f = problems()[self.name](**dict(self.arguments))
        if not isinstance(f, HingeProblem):
            raise TypeError(f"{self.name} is no sum of hinges")
        return f


def attack(conjecture: Conjecture) -> tuple[Found | None, int]:
    """The worst run on the shipped instances, and the number of runs compared."""
    found = [*_steady(conjecture)]
    if conjecture.oracle is not Oracle.EXACT:
        found += _random(conjecture)
    confirmed = [run for run in found if isinstance(run, Found)]
    return max(confirmed, key=lambda run: run.ratio, default=None), len(found)


def _picks(conjecture: Conjecture, name: str, wanted: Sequence[float]) -> list[float]:
    """The wanted values, clipped to the range."""
    low, high = conjecture.ranges[name]
    return sorted({min(max(value, low), high) for value in wanted})


def _grid(conjecture: Conjecture, horizons: Sequence[float]) -> Iterator[tuple[float, ...]]:
    """All combinations of beta, kappa, rho, lr beta and T."""
    low, high = conjecture.ranges["lr_beta"]
    wanted = {
        "beta": (1.0, 2.0), "kappa": (1.0, 4.0) if conjecture.setting in WITH_MU else (1.0,),
        "rho": (0.05, 0.5, 3.0), "lr_beta": (low, 0.3, 0.99 * high, high),
        "steps": horizons,
    }  # fmt: skip
    return product(*(_picks(conjecture, name, values) for name, values in wanted.items()))


def _settings(conjecture: Conjecture, rows: Sequence[tuple[float, ...]]) -> Constants:
    beta, kappa, rho, lr, steps = (np.array(column) for column in zip(*rows, strict=True))
    steps = steps.astype(np.int64)
    return Constants(
        beta, kappa, rho, lr / beta, steps, 0.5 / beta, 0.5 + 0 * beta, np.maximum(1, (steps * 0.8).astype(np.int64))
    )


def _lanes(conjecture: Conjecture) -> Iterator[tuple[Candidate, tuple[float, ...], float]]:
    """Quadratics and traps with one sample: each with its settings and its start."""
    for row in _grid(conjecture, (1, 2, 10, LONGEST)):
        beta, kappa, rho, lr, _ = row
        mu = beta / kappa if conjecture.setting in WITH_MU else 0.0
        starts = (lr * rho / max(2 - lr, 1e-3), 1e-9, rho, 3.0)  # the first is on the two-cycle
        cases = [Candidate.of("quadratic", starts, (beta, mu), curvatures=(lam,)) for lam in sorted({beta, mu or beta})]
        if conjecture.setting == "nonconvex":
            wells = [{"theta": theta, "beta": beta, "rho": rho} for theta in (1e-3, 0.125)]
            cases += [Candidate.of("trap", (0.0, 0.2 * rho), (beta, 0.0), **well) for well in wells]
        yield from ((case, row, x0) for case in cases for x0 in case.starts)


def _steady(conjecture: Conjecture) -> Iterator[Found | None]:
    """The worst run of all deterministic instances, which are run together; that one is confirmed."""
    lanes = list(_lanes(conjecture))
    s = _settings(conjecture, [row for _, row, _ in lanes])
    built = {what: case.build() for what, case in {case.problem: case for case, _, _ in lanes}.items()}
    f, x0 = known_of([built[case.problem] for case, _, _ in lanes], s), np.array([[x] for _, _, x in lanes])
    f.mu = np.array([case.mu for case, _, _ in lanes])
    limits, rates = limits_of(conjecture, s, f, x0)
    order = np.argsort(-s.steps, kind="stable")
    order = order[np.isfinite(limits[order])]
    if not len(order):
        return
    s, some = s.take(order), rates[:, order]
    clip = s.clip if conjecture.radius == "clipped" else None
    runs = Runs(deterministic(conjecture.method), some, *radii_of(conjecture, s, some), clip, s.steps, x0[order])
    with np.errstate(all="ignore"):
        ratios = measure(f.take(order), runs, conjecture.quantity) / limits[order]
    worst = int(np.argmax(np.where(np.isfinite(ratios), ratios, -1.0)))
    case, _, start = lanes[order[worst]]
    claims = {"beta": case.beta, "mu": case.mu}
    yield confirm(conjecture, "shipped", case.source, claims, s, worst, [start], deterministic(conjecture.method))
    yield from [None] * (len(order) - 1)


def known_of(built: Sequence[HingeProblem], s: Constants) -> Any:
    """Deterministic problems, one per lane, as arrays."""
    width = max(2, *(len(f.mean.hinges) for f in built))
    t, c = np.zeros((len(built), width)), np.zeros((len(built), 2, width))
    a, b = np.zeros((len(built), 2)), np.zeros((len(built), 2))
    for i, f in enumerate(built):
        knots = f.mean.knots()
        t[i] = [*knots, *[(knots or [0.0])[-1]] * (width - len(knots))]
        a[i], b[i] = f.mean.a, f.mean.b
        c[i, :, : len(knots)] = [jump for _, jump in f.mean.hinges]
    return known(s.beta, 0.0 * s.beta, np.ones((len(built), 1)), a, b, t, c)


def _random(conjecture: Conjecture) -> Iterator[Found | None]:
    """The stochastic instances: a few seeds at all settings, then many at the setting nearest to the bound."""
    groups: dict[tuple[Candidate, float], list[tuple[float, ...]]] = {}
    first = _picks(conjecture, "beta", (1.0,))[0]
    for row in _grid(conjecture, (NOISY_LONGEST,)):
        beta, kappa, rho, *_ = row
        for case in _noisy_cases(conjecture, beta, kappa, rho) if beta == first else ():
            groups.setdefault((case, rho), []).append(row)
    for (case, _), rows in groups.items():
        lanes = [(case.beta, case.beta / case.mu if case.mu else 1.0, *row[2:], x0) for row in rows for x0 in case.starts]
        yield from _nearest(
            conjecture, case, _settings(conjecture, [lane[:-1] for lane in lanes]), [lane[-1] for lane in lanes]
        )


def _nearest(conjecture: Conjecture, case: Candidate, s: Constants, starts: list[float]) -> Iterator[Found | None]:
    f, claims = case.build(), {"beta": case.beta, "mu": case.mu}
    told = [
        constants_of(conjecture, s, i, function_constants(conjecture, f, [x0], claims)) for i, x0 in enumerate(starts)
    ]  # fmt: skip
    limits, rates = np.array([conjecture.limit(one) for one in told]), [step_sizes(conjecture, one) for one in told]
    lanes = [i for i in range(len(starts)) if np.isfinite(limits[i]) and (callable(rates[i]) or np.isfinite(rates[i]))]
    together = [lanes] if lanes and conjecture.step_size is None else [[i] for i in lanes]
    ratios = np.zeros(len(starts))
    for some in together:
        ratios[some] = _few(conjecture, f, s, starts, some, [rates[i] for i in some], told[some[0]]) / limits[some]
    ratios = np.where(ratios < DIVERGES, ratios, 0.0)
    yield from [None] * (len(lanes) * FEW)
    if ratios.max() > NEAR:
        at = int(ratios.argmax())
        yield confirm(conjecture, "shipped", case.source, claims, s, at, [starts[at]], conjecture.method, seeds=SEEDS)


def _few(
    conjecture: Conjecture, f: HingeProblem, s: Constants, starts: list[float], some: list[int], rates: list[Any],
    told: dict[str, Any],
) -> Array:  # fmt: skip
    """The quantity for these lanes, each a mean over a few seeds; with schedules there is one lane."""
    run = simulate(
        f, method=conjecture.method, lr=rates[0] if callable(rates[0]) else np.repeat(rates, FEW),
        rho=radius_object(conjecture, told), steps=int(s.steps[0]), x0=np.repeat([starts[i] for i in some], FEW),
        seeds=np.tile(np.arange(FEW), len(some)), clip=told["clip"] if conjecture.radius == "clipped" else None,
        **kept(conjecture.quantity, int(s.steps[0])),
    )  # fmt: skip
    with np.errstate(all="ignore"):
        values = statistic(f, run, conjecture.quantity)
        return np.asarray(values.reshape(len(some), FEW).mean(axis=1))


def _noisy_cases(conjecture: Conjecture, beta: float, kappa: float, rho: float) -> Iterator[Candidate]:
    """Stochastic instances within the assumptions; beta covers unequal samples unless the bound takes their smoothness."""
    has_mu = conjecture.setting in WITH_MU
    mu = beta / kappa if has_mu else 0.0
    for p, radius, c in ((0.5, rho, rho), (0.5, 0.0, 1.0), (0.1, rho, None)):
        yield Candidate.of("e3", (0.0, -0.8 * rho), (beta, mu), p=p, rho=radius, beta=beta, c=c)
    least = beta / 10
    top = least if "beta_component" in conjecture.takes else beta
    low, high = conjecture.ranges["kappa"]
    if conjecture.oracle is Oracle.M_SAM and (not has_mu or low <= top / least <= high):
        yield Candidate.of("e1", (3.0 * rho,), (top, least if has_mu else 0.0), beta=beta, mu=least, rho=rho)
    if conjecture.setting in ("convex", "nonconvex") and conjecture.oracle is Oracle.M_SAM:
        yield Candidate.of("e4", (20 * rho,), (3 * beta, 0.0), beta=beta, rho=rho, d=20 * rho)
    if conjecture.setting == "nonconvex":
        yield Candidate.of("e5", (0.0,), (beta, 0.0), theta=0.01, s=0.005 * beta * rho, beta=beta, rho=rho)
    yield Candidate.of("us", (0.7,), (beta, 0.2 * beta if has_mu else 0.0), h1=beta, h2=0.2 * beta)
