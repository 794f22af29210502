"""`examine`: whether the claimed constants are right, which bounds apply, and how runs compare with them."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from sharpmin.core.extras import optional
from sharpmin.core.jsonable import jsonable
from sharpmin.core.rho import finite

from .._plan.plan import plan
from .._plan.result import Plan
from .._problems.dense import LogCosh
from .._problems.hinge import HingeProblem
from .._problems.problem import Problem
from .._simulation.simulate import refuse_lanes, simulate
from .._statements.assume import over
from .._statements.situation import ORACLES, QUANTITIES, RADII
from .._statements.statistic import kept, standard_error, statistic
from .constants import ClaimedConstant, constants, sample_draws

if TYPE_CHECKING:
    import numpy as np

    from .._problems.problem import Array
else:
    np = optional("numpy", extra="lab")


@dataclass(frozen=True)
class Confrontation:
    """One bound that applies, against runs.

    Attributes:
        oracle: which gradients a step uses.
        radius: how rho was applied.
        id: the statement.
        quantity: what is bounded; a key of `QUANTITIES`.
        step_size: the step size as text.
        rho: the schedule as text.
        measured: the mean over seeds.
        error: its standard error; 0 for a deterministic method.
        bound: the value of the bound.
        holds: whether measured - 4 standard errors <= bound.
        vacuous: whether the bound is no better than its value before the first step, or no larger than `rounding`.
        rounding: the rounding error of `measured` in double precision; added to the bound before the comparison.
    """

    oracle: str
    radius: str
    id: str
    quantity: str
    step_size: str
    rho: str
    measured: float
    error: float
    bound: float
    holds: bool
    vacuous: bool
    rounding: float

    @property
    def verdict(self) -> str:
        """The outcome as tables print it: "REFUTED", "vacuous" or "holds"."""
        if not self.holds:
            return "REFUTED"
        if self.vacuous and self.bound <= self.rounding:
            return f"vacuous (rounding alone is {self.rounding:.1g})"
        return "vacuous" if self.vacuous else "holds"


@dataclass(frozen=True)
class Examination:
    """What `examine` found; prints as two tables.

    Attributes:
        problem: its name.
        dim: its dimension.
        setting: "strongly-convex", "convex", "pl" or "nonconvex", from the claims.
        steps: T of the runs.
        delta: f(x0) - f*.
        constants: the claims, each with the most extreme value found.
        bounds: the bounds that apply, each compared with runs.
        silent: the combinations of oracle and radius without a bound, and why.
    """

    problem: str
    dim: int
    setting: str
    steps: int
    delta: float
    constants: tuple[ClaimedConstant, ...]
    bounds: tuple[Confrontation, ...]
    silent: tuple[str, ...]

    @property
    def wrong(self) -> tuple[ClaimedConstant, ...]:
        """The claims that were refuted."""
        return tuple(constant for constant in self.constants if not constant.holds)

    @property
    def holds(self) -> bool:
        """Whether no claim and no bound was refuted."""
        return not self.wrong and all(row.holds for row in self.bounds)

    def record(self) -> dict[str, Any]:
        """JSON-ready values for a section of a report; numbers that are not finite become None."""
        wrong = [constant.name for constant in self.wrong]
        whole: dict[str, Any] = jsonable({**asdict(self), "holds": self.holds, "wrong": wrong})
        return whole

    def __repr__(self) -> str:
        wrong = [*(constant.name for constant in self.wrong), *(row.id for row in self.bounds if not row.holds)]
        verdict = f"refuted: {', '.join(wrong)}" if wrong else "nothing refuted"
        return f"<Examination of {self.problem}: {len(self.constants)} claims, {len(self.bounds)} bounds, {verdict}>"

    def __str__(self) -> str:
        lines = [f"{self.problem}: dimension {self.dim}, {self.setting}, Delta {self.delta:.4g}"]
        lines += [f"  {'constant':<15} {'claimed':>10} {'found':>10}  verdict"]
        for c in self.constants:
            if c.name == "gradient":
                lines.append(f"  {'gradient':<15} {'':>10} {'':>10}  {'matches f' if c.holds else f'WRONG: {c.text}'}")
                continue
            verdict = "not refuted" if c.holds else f"WRONG: {c.text}"
            lines.append(f"  {c.name:<15} {c.claimed:>10.5g} {c.found:>10.5g}  {verdict}")
        if self.bounds:
            lines.append(f"  after {self.steps} steps")
            lines.append(f"  {'oracle':<6} {'radius':<13} {'statement':<9} {'measured':>10}    {'bound':>10}  verdict")
        for row in self.bounds:
            numbers = f"{row.measured:>10.4g} <= {row.bound:>10.4g}"
            lines.append(f"  {row.oracle:<6} {row.radius:<13} {row.id:<9} {numbers}  {row.verdict}: {QUANTITIES[row.quantity]}")
        lines += [f"  no bound: {reason}" for reason in self.silent]
        return "\n".join(lines)


def examine(
    problem: Problem,
    *,
    x0: Any,
    rho: float = 0.05,
    steps: int = 200,
    seeds: int = 8,
    reach: float = 1.0,
    pairs: int = 100,
    seed: int = 0,
) -> Examination:
    """Try to refute the constants of a problem, then compare every bound that applies with runs.

    Args:
        problem: from `own` or `problems()`.
        x0: where the runs start and the search is centered: a number, or an array (dim,).
        rho: the radius of the runs; where it is not normalized, at most 1/(2 beta_component).
        steps: T of the runs.
        seeds: how many runs a stochastic method gets, at least 2.
        reach: distance from x0 within which constants are tested: most points within `reach`, some within three times that.
        pairs: the number of random points tested.
        seed: of the random points.

    Raises:
        ValueError: for a start of the wrong shape, or numbers out of range.

    A claim that survives is not proved. A refutation comes with its points, so it can be checked by hand.

    >>> from sharpmin.theory import own
    >>> wrong = own(value=lambda x: 2 * x * x, gradient=lambda x: 4 * x, beta=3.9, f_star=0.0)
    >>> [(c.name, round(c.found, 6)) for c in examine(wrong, x0=1.0).wrong]
    [('beta', 4.0)]
    """
    with np.errstate(over="ignore", invalid="ignore"):  # a run that diverges refutes a bound and must not warn
        return _examination(problem, x0, rho, steps, seeds, reach, pairs, seed)


def _examination(
    problem: Problem, x0: Any, rho: float, steps: int, seeds: int, reach: float, pairs: int, seed: int
) -> Examination:
    start = _start(problem, x0)
    for name, value, least in (("steps", steps, 1), ("seeds", seeds, 2), ("pairs", pairs, 1)):
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise ValueError(f"examine: {name}={value!r} must be an integer >= {least}")
    reach, rho = finite(reach, "reach", "examine", low=0, strict=True), finite(rho, "rho", "examine", low=0)
    refuse_lanes(problem, "m-sam", steps, seeds)
    delta, size = float(problem.gap(start)[0]), float(problem.norm(problem.gradient(start))[0])
    if not (math.isfinite(delta) and max(abs(float(v)) for v in (*start.flat, size)) < 1e150):
        raise ValueError(
            f"examine: at x0={x0!r} f is {delta:g} above f_star and ||grad f|| is {size:g}; choose x0 where both are numbers"
        )
    found = constants(problem, start, reach=reach, pairs=pairs, seed=seed)
    results = list(_confront(problem, start, rho, steps, seeds))
    rows = tuple(result for result in results if isinstance(result, Confrontation))
    silent = tuple(dict.fromkeys(result for result in results if isinstance(result, str)))
    return Examination(problem.name, problem.dim, setting_of(problem), steps, delta, found, rows, silent)


def _start(problem: Problem, x0: Any) -> Array:
    """x0 as the one lane of a run."""
    try:
        start = np.asarray(x0, dtype=np.float64)
    except (TypeError, ValueError, OverflowError):
        start = np.full(0, np.nan)
    if start.size != problem.dim or start.ndim > 1 or not np.isfinite(start).all():
        needed = "a finite number" if problem.dim == 1 else f"finite numbers of shape ({problem.dim},)"
        raise ValueError(f"examine: x0={x0!r}; {problem.name} needs {needed}")
    return start.reshape(1) if problem.dim == 1 else start.reshape(1, -1)


def setting_of(problem: Problem) -> str:
    """The setting that the problem's claims imply: "strongly-convex", "convex", "pl" or "nonconvex"."""
    if problem.mu > 0:
        return "strongly-convex"
    flat = isinstance(problem, HingeProblem) and min(problem.mean.slopes()) >= 0
    if flat or getattr(problem, "convex", False) or isinstance(problem, LogCosh):
        return "convex"
    return "pl" if problem.pl > 0 else "nonconvex"


def _confront(problem: Problem, start: Array, rho: float, steps: int, seeds: int) -> Iterator[Confrontation | str]:
    stochastic = len(sample_draws(problem)[0]) > 1
    for oracle in ORACLES if stochastic else ORACLES[:1]:
        for radius in RADII:
            try:
                promised = _promise(problem, start, oracle, radius, rho, steps)
            except ValueError as error:
                yield f"{oracle}, {radius}: {str(error).split(': ', 2)[-1]}"
                continue
            yield _run(problem, start, promised, seeds)


def _promise(problem: Problem, start: Array, oracle: str, radius: str, rho: float, steps: int) -> Plan:
    setting = setting_of(problem)
    mu = {"strongly-convex": problem.mu, "pl": problem.pl}.get(setting)
    noise: dict[str, Any] = {} if oracle == "exact" else {"sigma": problem.sigma}
    if oracle != "exact" and problem.sigma == math.inf and problem.residual is not None:
        noise = {"residual": problem.residual}
    if radius == "unnormalized":
        rho = min(rho, over(1.0, 2 * problem.beta_component))
    return plan(
        setting=setting,
        oracle=oracle,
        radius=radius,
        beta=problem.beta,
        mu=mu,
        **noise,
        rho=rho,
        steps=steps,
        delta=max(0.0, float(problem.gap(start)[0])),
        beta_component=problem.beta_component,
    )


def _run(problem: Problem, start: Array, promised: Plan, seeds: int) -> Confrontation:
    raw = promised.radius == "unnormalized"
    method = {"exact": "sam"}.get(promised.oracle, promised.oracle)
    lanes = 1 if promised.oracle == "exact" else seeds
    run = simulate(
        problem,
        method=method.replace("sam", "usam") if raw else method,
        lr=promised.step_size,
        rho=promised.rho.rho if raw else promised.rho,  # type: ignore[attr-defined]  # Unnormalized has one
        clip=promised.clip,
        steps=promised.steps,
        x0=np.repeat(start, lanes, axis=0),
        seeds=np.arange(lanes),
        **kept(promised.quantity, promised.steps),
    )
    values = statistic(problem, run, promised.quantity)  # the least of each run is no larger in the mean
    error = standard_error(values)
    measured = float(values.mean())
    gap = promised.quantity in ("gap", "perturbed-gap")
    rounding = 10 * problem.resolution * (1.0 if gap else 2 * problem.beta)  # ||grad f||^2 <= 2 beta (f - f*)
    slack = 4 * error + 1e-9 * promised.bound + rounding
    return Confrontation(
        oracle=promised.oracle,
        radius=promised.radius,
        id=promised.ids[0],
        quantity=promised.quantity,
        step_size=f"{promised.step_size:.4g}" if isinstance(promised.step_size, float) else str(promised.step_size),
        rho=str(promised.rho),
        measured=measured,
        error=error,
        bound=promised.bound,
        holds=measured - slack <= promised.bound,
        vacuous=promised.vacuous or (rounding > 0 and promised.bound <= rounding),
        rounding=rounding,
    )
