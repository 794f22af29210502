"""A run found by an attack, as source that rebuilds it with the public interface; its numbers come from that source."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sharpmin.core.extras import optional
from sharpmin.core.rho import RhoSchedule

from .._problems.hinge import HingeProblem
from .._problems.problem import Problem
from .._simulation.lr import InverseTime
from .._statements.statistic import distance, kept, standard_error
from .conjecture import Conjecture
from .genes import constants_of, radius_object, step_sizes

if TYPE_CHECKING:
    import numpy as np
else:
    np = optional("numpy", extra="lab")

ERRORS = 5.0
"""A mean over seeds counts as above the bound only if it exceeds it by this many standard errors."""

ROUNDING = 1e-9
"""The share of the bound that is allowed for rounding."""


@dataclass(frozen=True)
class Found:
    """A run with one function, one start and one setting, compared with the bound.

    Attributes:
        measured: the quantity of the run; an exact expectation if `error` is 0.
        bound: the bound at the constants of this run.
        error: the standard error of `measured` if it is a mean over seeds; else 0.
        resolution: the rounding error of `measured`.
        family: the family of the function.
        constants: the constants that the bound was given.
        source: Python code that ends with `measured` and `limit`.
    """

    measured: float
    bound: float
    error: float
    resolution: float
    family: str
    constants: Mapping[str, Any]
    source: str

    @property
    def ratio(self) -> float:
        """Measured over bound, after the allowance for noise is subtracted."""
        surely = self.measured - ERRORS * self.error - self.resolution
        return surely / self.bound if self.bound > 0 else (math.inf if surely > self.bound else 0.0)

    @property
    def refutes(self) -> bool:
        """Whether measured exceeds the bound by more than rounding and noise."""
        return self.measured - ERRORS * self.error - self.resolution > self.bound + ROUNDING * abs(self.bound)


def deterministic(method: str) -> str:
    """The deterministic method that `method` becomes on a function with one sample."""
    return {"sgd": "gd"}.get(method, method.rsplit("-", maxsplit=1)[-1])


def confirm(
    conjecture: Conjecture, family: str, source: str, claims: Mapping[str, float], settings: Any, i: int, x0: list[float],
    method: str, *, seeds: int = 0,
) -> Found | None:  # fmt: skip
    """Build the function from its source, run it, and compute every constant from it.

    Args:
        conjecture: the claim that is attacked.
        family: the family of the function.
        source: lines that end with `f = ...`.
        claims: the beta and mu given to the bound; f is at most beta-smooth and has at least mu.
        settings: the constants of all lanes.
        i: the lane.
        x0: the start of the lane.
        method: the method of the conjecture, or its deterministic form if f has one sample.
        seeds: 0 for exact expectations; else the number of runs that are averaged.

    Returns:
        None if the bound refuses the constants, or the run overflowed.
    """
    namespace: dict[str, Any] = {}
    head = "from sharpmin import theory\n" + source
    exec(compile(head, "<instance>", "exec"), namespace)
    constants = constants_of(conjecture, settings, i, function_constants(conjecture, namespace["f"], x0, claims))
    lr, rho = step_sizes(conjecture, constants), radius_object(conjecture, constants)
    limit = conjecture.limit(constants)
    if not math.isfinite(limit) or not (callable(lr) or math.isfinite(lr)):
        return None
    start = x0[0] if len(x0) == 1 else x0
    told = {name: constants[name] for name in conjecture.takes}
    call = f'f, method="{method}", lr={_lr(lr, constants["steps"])}, rho={rho!r}, steps={constants["steps"]}, x0={start!r}'
    if conjecture.radius == "clipped":
        call += f", clip={constants['clip']!r}"
    if seeds:
        asks = "".join(f", {name}={value!r}" for name, value in kept(conjecture.quantity, constants["steps"]).items())
        lines = [f"run = theory.simulate({call}, seeds=range({seeds}){asks})",
                 f'values = theory.statistic(f, run, "{conjecture.quantity}")', "measured = float(values.mean())"]  # fmt: skip
    else:
        lines = [f"run = theory.expect({call})", f'measured = run["{conjecture.quantity}"]']
    head = _imports(rho, told) + head
    error = 0.0
    with np.errstate(all="ignore"):  # a run may diverge
        exec(compile("\n".join([head, *lines]), "<instance>", "exec"), namespace)
        measured = float(namespace["measured"])
        if seeds:
            error = standard_error(namespace["values"])
    if not (math.isfinite(measured) and math.isfinite(error)):
        return None
    own = namespace["f"]  # for cones and quadratics f* = 0 and no terms cancel
    resolution = own.resolution if "gap" in conjecture.quantity and isinstance(own, HingeProblem) else 0.0
    text = "\n".join([head, *lines, *_limit(conjecture, told, limit), ""])
    return Found(measured, limit, error, resolution, family, told, text)


def function_constants(conjecture: Conjecture, f: Problem, x0: list[float], claims: Mapping[str, float]) -> dict[str, float]:
    """The constants that depend on the function and the start."""
    mu = claims["mu"]
    if conjecture.setting == "pl" and isinstance(f, HingeProblem):
        mu = min(mu, f.pl)
    one = np.array([x0[0]]) if f.dim == 1 else np.array([x0])
    return {
        "beta": claims["beta"], "mu": mu, "delta": max(0.0, float(f.gap(one)[0])),
        "distance": float(distance(f, one)[0]), "sigma": f.sigma,
        "beta_component": f.beta_batch,
    }  # fmt: skip


def _lr(lr: Any, steps: int) -> str:
    """The step size as Python code."""
    if not callable(lr):
        return repr(float(lr))
    return f"theory.{lr!r}" if isinstance(lr, InverseTime) else f"{[float(lr(t)) for t in range(steps)]}.__getitem__"


def _imports(rho: Any, told: Mapping[str, Any]) -> str:
    names = sorted({type(v).__name__ for v in (rho, *told.values()) if isinstance(v, RhoSchedule)})
    return f"from sharpmin.rho import {', '.join(names)}\n" if names else ""


def _limit(conjecture: Conjecture, told: Mapping[str, Any], limit: float) -> list[str]:
    constants = f"constants = {dict(told)!r}"
    if conjecture.id:
        share = ' / constants["steps"]' if conjecture.per_step else ""
        line = f'limit = theory.theorems()["{conjecture.id}"].bound(**constants){share}'
    else:
        line = f"limit = {limit!r}  # {conjecture.name}(**constants)" + ", divided by T" * conjecture.per_step
    return [constants, line]
