"""The arguments and results of a simulation, shared by the reference and the compiled engine."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sharpmin.core.extras import optional
from sharpmin.core.rho import RhoSchedule

from .lr import LRSchedule
from .oracle import Oracle

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from .._problems.problem import Array, Problem
else:
    np = optional("numpy", extra="lab")


@dataclass(frozen=True)
class StepRule:
    """A method: which gradients its steps use, and how they ascend."""

    oracle: Oracle
    ascent: str | None  # None, "unit" (rho g / ||g||) or "raw" (rho g)


METHODS = {
    "gd": StepRule(Oracle.EXACT, None),
    "sgd": StepRule(Oracle.M_SAM, None),
    "sam": StepRule(Oracle.EXACT, "unit"),
    "usam": StepRule(Oracle.EXACT, "raw"),
    "m-sam": StepRule(Oracle.M_SAM, "unit"),
    "n-sam": StepRule(Oracle.N_SAM, "unit"),
    "m-usam": StepRule(Oracle.M_SAM, "raw"),
    "n-usam": StepRule(Oracle.N_SAM, "raw"),
}


@dataclass(frozen=True)
class CheckedRun:
    """The arguments of `simulate`, checked and broadcast; `lr` and `rho` are arrays of shape (lanes,) or schedules."""

    problem: Problem
    method: StepRule
    x0: Array
    lr: Array | LRSchedule
    rho: Array | RhoSchedule
    seeds: NDArray[np.int64]
    steps: int
    clip: float | None
    record: tuple[int, ...]
    means: bool


@dataclass
class Recorded:
    """x at the recorded steps and at the end; sums over t of ||grad f(x_t)||^2 and f(y_t) - f*; the minimum of the former."""

    kept: dict[int, Array]
    sums: Array
    least: Array

    @classmethod
    def begin(cls, run: CheckedRun) -> Recorded:
        """The state before the first step."""
        lanes = len(run.x0)
        return cls({}, np.zeros((2, lanes)), np.full(lanes, np.inf))


def prepare(
    problem: Problem, method: str, lr: Any, rho: Any, steps: int, x0: Any, seeds: Any, clip: Any, record: Any, means: bool
) -> CheckedRun:
    """Check all arguments and broadcast them to one lane dimension.

    Raises:
        TypeError: if `steps` is not an integer.
        ValueError: with what was given and what is needed.
    """
    how = _how(method, rho)
    rho = 0.0 if rho is None else rho
    wanted = _recorded(steps, record)
    if clip is not None and not 0 < clip < 1:
        raise ValueError(f"simulate: clip={clip!r} (theta) must be in (0, 1)")
    start = _start(problem, x0)
    numbers = {"lr": lr, "rho": rho, "seeds": seeds}
    arrays = {name: _lanes(name, value) for name, value in numbers.items() if not callable(value)}
    shapes = {"x0": start.shape[:1], **{name: array.shape for name, array in arrays.items()}}
    try:
        lanes = np.broadcast_shapes(*shapes.values())
    except ValueError:
        raise ValueError(f"simulate: these do not broadcast: {shapes}; give each one value, or one per lane") from None
    spread = {name: np.broadcast_to(array, lanes) for name, array in arrays.items()}
    x = np.array(np.broadcast_to(start, lanes + start.shape[1:]))
    seeds = spread["seeds"].astype(np.int64)
    floats = {name: spread[name].astype(np.float64) if name in spread else numbers[name] for name in ("lr", "rho")}
    return CheckedRun(problem, how, x, floats["lr"], floats["rho"], seeds, steps, clip, wanted, means)


def _how(method: str, rho: Any) -> StepRule:
    if method not in METHODS:
        raise ValueError(f"simulate: method={method!r} must be one of {', '.join(METHODS)}")
    if rho is None and METHODS[method].ascent is not None:
        raise ValueError(f"simulate: method={method!r} perturbs the weights, so it needs rho, a number or a schedule")
    return METHODS[method]


def _recorded(steps: int, record: Any) -> tuple[int, ...]:
    """The steps to record, in order."""
    if isinstance(steps, bool) or not hasattr(steps, "__index__"):
        raise TypeError(f"simulate: steps={steps!r} must be an integer >= 1")
    wanted = tuple(sorted({int(t) for t in record}))
    if steps < 1 or any(t < 0 or t > steps for t in wanted):
        raise ValueError(f"simulate: steps={steps!r} must be >= 1 and record={list(wanted)} within 0 ... steps")
    return wanted


def _start(problem: Problem, x0: Any) -> Array:
    """x0 as an array whose first axis is lanes."""
    start = np.asarray(x0, dtype=np.float64)
    if not np.isfinite(start).all():
        raise ValueError(f"simulate: x0={x0!r} must be finite")
    start = start[None] if start.ndim < (1 if problem.dim == 1 else 2) else start
    if problem.dim > 1 and start.shape[-1] != problem.dim:
        raise ValueError(f"simulate: x0 has shape {np.shape(x0)}; {problem.name} needs a last axis of length {problem.dim}")
    return start


def _lanes(name: str, value: Any) -> NDArray[Any]:
    """A number, or one for each lane, as an array."""
    array = np.atleast_1d(np.asarray(value))
    kinds, more = ("iu", ", integers") if name == "seeds" else ("iuf", "")
    if array.dtype.kind not in kinds or not np.isfinite(array).all() or (array < 0).any():
        raise ValueError(f"simulate: {name}={value!r} must be finite and >= 0{more}")
    return array
