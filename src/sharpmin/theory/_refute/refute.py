"""`refute`: an upper bound attacked by shipped instances, evolved functions and enumerated sample paths."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sharpmin.core.jsonable import jsonable
from sharpmin.runs import Row, Store, compute

from .._simulation.oracle import Oracle
from .._statements.situation import QUANTITIES
from .._statements.theorem import Theorem
from .._statements.verify import find
from .conjecture import Conjecture, conjecture
from .hunt import FAMILIES, Island, probe, recalled, record, run
from .instance import Found

ISLAND = 2000
"""The approximate number of evaluations of one island."""


@dataclass(frozen=True)
class Refutation:
    """The result of an attack on an upper bound.

    Attributes:
        bound: the name of the bound.
        method, assumptions, quantity: the runs for which it is claimed.
        refuted: whether a run exceeds the bound by more than rounding (1e-9 of the bound) and noise (five standard errors).
        ratio: the largest measured/bound, after allowances for noise and rounding; 0 if the bound applied to no run.
        worst: the run with that ratio, and its constants.
        per_family: the largest ratio of each family.
        evaluations: the number of runs compared with the bound.
        computed: the number of those computed in this call; the others come from `store`.
        seconds: the wall-clock time of this call.
        budget: the number of evaluations asked for.
        complete: whether the whole budget was spent; False if `seconds` ran out first.
    """

    bound: str
    method: str
    assumptions: str
    quantity: str
    refuted: bool
    ratio: float
    worst: Found | None
    per_family: dict[str, float]
    evaluations: int
    computed: int
    seconds: float
    budget: int
    complete: bool

    def code(self) -> str:
        """Python source that rebuilds the worst run; it ends with `measured` and `limit`.

        Raises:
            ValueError: if there is no run.
        """
        if self.worst is None:
            raise ValueError(f"refute: {self.bound} applied to no run, so there is no code")
        return self.worst.source

    def record(self) -> dict[str, Any]:
        """The result as JSON-ready values; numbers that are not finite become None."""
        worst = None if self.worst is None else record(self.worst)
        whole: dict[str, Any] = jsonable({**vars(self), "worst": worst})
        return whole

    def __str__(self) -> str:
        word = "REFUTED" if self.refuted else "not refuted"
        head = f"{self.bound}: {QUANTITIES[self.quantity]}, {self.method}, {self.assumptions}: {word}"
        pace = f", {self.computed / self.seconds:,.0f} a second" if self.computed else ""
        if self.worst is None:
            return "\n".join([head, "the bound refused every run: are the ranges within its conditions?"])
        noise = f", standard error {self.worst.error:.2g}" if self.worst.error else ""
        numbers = f"{self.worst.measured:.9g} against {self.worst.bound:.9g}{noise}"
        lines = [head, f"worst measured/bound {beside_one(self.ratio)}, from {self.worst.family}: {numbers}"]
        shown = ", ".join(f"{k}={v:.6g}" if isinstance(v, float) else f"{k}={v}" for k, v in self.worst.constants.items())
        lines.append(f"at {shown}")
        each = ", ".join(f"{name} {beside_one(ratio)}" for name, ratio in self.per_family.items())
        lines.append(f"worst measured/bound by family: {each}")
        lines.append(f"{self.evaluations:,} runs in {self.seconds:.1f} s{pace}{'' if self.complete else '; time was up'}")
        return "\n".join(lines)

    def __repr__(self) -> str:
        word = "refuted" if self.refuted else "not refuted"
        return f"<Refutation of {self.bound}: {word}, worst ratio {beside_one(self.ratio)}>"


def beside_one(ratio: float) -> str:
    """A ratio in four digits, or in as many as tell it from 1.

    >>> beside_one(0.25), beside_one(0.99996), beside_one(1.0000003), beside_one(1.0)
    ('0.25', '0.99996', '1.0000003', '1')
    """
    texts = (f"{ratio:.{digits}g}" for digits in range(4, 18))
    return "1" if ratio == 1 else next(text for text in texts if float(text) != 1)


def refute(
    bound: Callable[..., Any] | Theorem | str,
    *,
    method: str | None = None,
    assumptions: str | None = None,
    quantity: str | None = None,
    radius: str | None = None,
    step_size: Callable[..., Any] | None = None,
    kappa: Any = None,
    lr_beta: Any = None,
    rho: Any = None,
    steps: Any = None,
    beta: Any = None,
    budget: int = 20_000,
    seed: int = 0,
    seconds: float | None = None,
    families: Sequence[str] = (),
    workers: int | None = None,
    scheduler: str | None = None,
    store: Path | str | None = None,
    progress: Callable[[int, int, float], None] | None = None,
) -> Refutation:
    """Attack an upper bound: look for a function, a start and a setting within the assumptions that exceeds it.

    Three attacks. The shipped instances, from the starts where they are worst. Evolution (CMA-ES) over piecewise linear
    derivatives, squared distances to cones in the plane, and diagonal quadratics, with their constants, T and start. For
    stochastic methods, also short runs with two samples, whose paths are all enumerated, so that expectations are exact.

    Args:
        bound: a function of named constants, such as `def bound(*, beta, rho, steps, delta, lr)`; see `CONSTANTS`. Constants
            for which it raises `ValueError` are skipped. Or a statement or its id; method, assumptions, quantity and radius
            are then taken from it unless given.
        method: gd, sgd, sam, usam, m-sam, n-sam, m-usam or n-usam, as in `simulate`.
        assumptions: strongly-convex, convex, pl or nonconvex; f is always beta-smooth.
        quantity: gap, mean-gap, squared-gradient, least-squared-gradient, perturbed-gap or squared-distance.
        radius: constant (default), inverse-sqrt, sqrt-lr, capped, clipped or switched.
        step_size: a function of constants that gives lr, or a schedule of t; by default the claim is for every lr in range.
        kappa: beta/mu, a number or a pair (low, high).
        lr_beta: lr times beta, likewise.
        rho: the radius, likewise.
        steps: T, likewise.
        beta: smoothness, likewise.
        budget: the number of runs that evolution may evaluate; the same budget and seed give the same result.
        seed: the seed of evolution.
        seconds: no new part is begun after this time; the result then depends on the machine.
        families: some of shipped, hinges, paths, cones and quadratics; by default all that apply.
        workers, scheduler: where parts are computed, as in `sharpmin.runs.compute`; the bound must then be importable.
        store: a file for finished parts; the same call resumes from it.
        progress: called with the number of parts done, their total, and the largest ratio so far.

    Raises:
        TypeError: if the bound takes an unknown constant, or does not return a number.
        ValueError: for an unknown name, a wrong range, or a constant that does not exist under the assumptions.

    >>> def hopeful(*, beta, mu, steps, delta, lr):  # as if rho did not matter
    ...     return (1 - mu * lr) ** steps * delta
    >>> found = refute(hopeful, method="sam", assumptions="strongly-convex", quantity="gap", budget=500)
    >>> found.refuted, found.ratio > 2
    (True, True)
    """
    tasks = begin(
        bound, method=method, assumptions=assumptions, quantity=quantity, radius=radius, step_size=step_size, kappa=kappa,
        lr_beta=lr_beta, rho=rho, steps=steps, beta=beta, budget=budget, seed=seed, families=families,
    )  # fmt: skip
    claim, start = tasks[0].conjecture, time.perf_counter()
    kept = None if store is None else Store(Path(store))
    rows = {} if kept is None else kept.known(tasks)
    missing = [task for task in tasks if task not in rows]
    found = [*rows.values()]
    before = sum(row["evaluations"] for row in found)
    with closing(compute(run, missing, workers=workers, scheduler=scheduler, uses_torch=uses_torch())) as fresh:
        for row in fresh:
            found.append(row)
            if kept is not None:
                kept.add(row)
            if progress is not None:
                progress(len(found), len(tasks), max(_ratio(one) for one in found))
            if seconds is not None and time.perf_counter() - start > seconds:
                break
    computed = sum(row["evaluations"] for row in found) - before
    return _result(claim, found, computed, budget, time.perf_counter() - start, len(found) == len(tasks))


def uses_torch() -> bool:
    """Whether the bound uses torch: `begin` has called it, so torch is loaded if it does."""
    return "torch" in sys.modules


def begin(
    bound: Callable[..., Any] | Theorem | str, *, budget: int, seed: int, families: Sequence[str] = (), **claim: Any
) -> list[Island]:
    """Check all arguments, call the bound once, and return the parts of the attack in their order.

    Raises:
        TypeError, ValueError: as `refute`, and whatever the bound itself raises but for `ValueError`.
    """
    made = conjecture(find(bound) if isinstance(bound, str) else bound, **claim)
    tasks = islands(made, budget, seed, families)
    if not tasks:
        raise ValueError(
            f"refute: budget=0 tries family 'shipped' alone, and families={list(families)} is without it; give a budget"
        )
    probe(made)
    return tasks


def islands(claim: Conjecture, budget: int, seed: int, families: Sequence[str] = ()) -> list[Island]:
    """The parts of an attack, in the order in which they begin.

    Raises:
        TypeError: unless budget and seed are integers.
        ValueError: if they are negative, or a family is unknown.
    """
    _natural("budget", budget)
    _natural("seed", seed)
    chosen = _chosen(claim, families)
    tasks = [Island(claim, name, 0, 0) for name in chosen if name == "shipped"]
    evolved = [name for name in chosen if name != "shipped"] if budget else []
    count = len(evolved) * max(1, math.ceil(budget / (ISLAND * max(1, len(evolved)))))
    return tasks + [Island(claim, evolved[k % len(evolved)], seed * 10_000 + k, budget // count) for k in range(count)]


def _chosen(claim: Conjecture, families: Sequence[str]) -> list[str]:
    """The families that apply, or those given."""
    known = [name for name in FAMILIES if name != "paths" or claim.oracle is not Oracle.EXACT]
    if strange := [family for family in families if family not in known]:
        raise ValueError(f"refute: family {strange[0]!r} must be one of {', '.join(known)}, with method={claim.method!r}")
    return [name for name in known if not families or name in families]


def _natural(name: str, value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"refute: {name}={value!r} must be an integer >= 0")
    if value < 0:
        raise ValueError(f"refute: {name}={value} must be an integer >= 0")


def _ratio(row: Row) -> float:
    found = recalled(row)
    return 0.0 if found is None else found.ratio


def _result(claim: Conjecture, rows: Sequence[Row], computed: int, budget: int, seconds: float, complete: bool) -> Refutation:
    found = sorted(
        ((row["id"]["family"], one) for row in rows if (one := recalled(row)) is not None), key=lambda p: -p[1].ratio
    )
    worst = found[0][1] if found else None
    best: dict[str, float] = {}
    for family, one in found:
        best.setdefault(family, one.ratio)
    return Refutation(
        claim.name, claim.method, claim.setting, claim.quantity, any(one.refutes for _, one in found),
        0.0 if worst is None else worst.ratio, worst, best, sum(row["evaluations"] for row in rows), computed, seconds,
        budget, complete,
    )  # fmt: skip
