"""`simulate`: eight methods, from GD to SAM, on many lanes at once, with the fastest engine that supports the run."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from sharpmin.core.extras import optional

from .._problems.hinge import HingeProblem
from .compiled import run_compiled, supports
from .oracle import Oracle
from .reference import CHUNK, run_reference
from .run import METHODS, CheckedRun, Recorded, prepare

if TYPE_CHECKING:
    import numpy as np
    import xarray as xr

    from .._problems.problem import Problem
else:
    np = optional("numpy", extra="lab")
    xr = optional("xarray", extra="lab")


def simulate(
    problem: Problem,
    *,
    method: str,
    lr: Any,
    rho: Any = None,
    steps: int,
    x0: Any,
    seeds: Any = 0,
    clip: float | None = None,
    record: Iterable[int] = (),
    means: bool = True,
    engine: str = "auto",
) -> xr.Dataset:
    """Run SAM, or one of seven related methods, on many lanes at once.

    ```
    y  = x + e,  e = rho_t g / ||g||  (sam, m-sam, n-sam),  rho_t g  (usam, m-usam, n-usam),  0  (gd, sgd)
    x+ = x - lr_t d,  d = G = gradient at y,  or with clip theta:  d = g + min(1, theta ||g|| / ||G - g||) (G - g)
    ```
    g and G are full gradients (gd, sam, usam), or of the same drawn sample (sgd, `m-*`), or of independent ones (`n-*`). Where
    rho_t is 0 there is no second pass, as in training: d = g.

    Args:
        problem: see `problems()`.
        method: gd, sgd, sam, usam, m-sam, n-sam, m-usam or n-usam.
        lr: a number, one per lane, or a callable of the step.
        rho: a number, one per lane, or a schedule from `sharpmin.rho`, the same objects as in training; gd and sgd need none.
        steps: T >= 1.
        x0: the start; a number or one per lane, with a last axis of length `dim` if the problem has `dim` > 1.
        seeds: an integer or one per lane; lanes with equal seeds see equal draws. See `samples`.
        clip: theta of the clipped difference, in (0, 1).
        record: steps in 0 ... T at which x_t and f(x_t) are kept.
        means: False leaves out the three statistics over t, which on data cost more than the step itself.
        engine: "numpy" is the readable reference, which runs everything; "compiled" runs 1-D hinge problems, and exact steps
            on diagonal quadratics, kappa2 and wedge, twenty to fifty times faster on many lanes; "auto" takes "compiled" for
            these and "numpy" otherwise.

    Returns:
        Dataset over `lane` (lr, rho, x0 and seeds broadcast to it): x_final; over t < T mean_square_gradient
        (of ||grad f(x_t)||^2), min_square_gradient, mean_perturbed_gap (of f(y_t) - f*); x and value over `record`. A
        run that diverges ends in inf or nan.

    Raises:
        ValueError: for an unknown method, bad numbers, lane counts that do not broadcast, more lanes than memory can hold, or
            an engine that does not support the run.

    >>> from sharpmin import theory
    >>> run = simulate(theory.problems()["quadratic"](curvatures=[2.0]), method="sam", lr=0.15, rho=0.7, steps=500, x0=1.0)
    >>> round(abs(float(run.x_final[0])), 12)  # the two-cycle: lr lam rho / (2 - lr lam)
    0.123529411765
    """
    refuse_lanes(problem, method, steps, max(map(_lanes, (lr, rho, x0, seeds))))
    run = prepare(problem, method, lr, rho, steps, x0, seeds, clip, record, means)
    if engine not in ("auto", "numpy", "compiled"):
        raise ValueError(f"simulate: engine={engine!r} must be auto, numpy or compiled")
    able = engine != "numpy" and supports(run)
    if engine == "compiled" and not able:
        raise ValueError(f"simulate: engine='compiled' does not take {problem!r} with these settings; use engine='auto'")
    with np.errstate(over="ignore", invalid="ignore"):  # divergence is a result
        return _dataset(run, method, run_compiled(run) if able else run_reference(run))


def refuse_lanes(problem: Problem, method: str, steps: Any, lanes: int) -> None:
    """Refuse more lanes than memory can hold, before any of them is made.

    Raises:
        ValueError: if they need more than half of the machine's memory.
    """
    numbers = 12 + 10 * problem.dim
    oracle = METHODS[method].oracle if method in METHODS else Oracle.EXACT
    if not isinstance(problem, HingeProblem) and oracle is not Oracle.EXACT:
        draws = problem.batch * (2 if oracle is Oracle.N_SAM else 1)
        numbers += 3 * draws * (min(steps, CHUNK) if isinstance(steps, int) else 1)  # uniform numbers, bits and indices
    room = _memory() // 2
    if lanes * numbers * 8 > room:
        raise ValueError(
            f"simulate: {lanes} lanes need at least {lanes * numbers * 8 / 2**30:.3g} GiB of memory, half of this machine's is "
            f"{room / 2**30:.3g} GiB; give fewer seeds or starts, at most {room // (8 * numbers)} lanes at a time"
        )


def _memory() -> int:
    """The memory of this machine in bytes; 8 GiB if unknown."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return 8 * 2**30


def _lanes(values: Any) -> int:
    """The number of lanes that these arguments broadcast to; 1 if it cannot be determined."""
    try:
        return len(values)
    except TypeError:
        return 1
    except OverflowError:  # a range beyond 2**63
        return sys.maxsize


def _dataset(run: CheckedRun, method: str, out: Recorded) -> xr.Dataset:
    axes = ("lane",) if run.problem.dim == 1 else ("lane", "coordinate")
    data: dict[str, Any] = {"x_final": (axes, out.kept[run.steps])}
    if run.means:
        data["mean_square_gradient"] = ("lane", out.sums[0] / run.steps)
        data["min_square_gradient"] = ("lane", out.least)
        data["mean_perturbed_gap"] = ("lane", out.sums[1] / run.steps)
    if run.record:
        data["x"] = (("record", *axes), np.stack([out.kept[t] for t in run.record]))
        data["value"] = (("record", "lane"), np.stack([run.problem.value(out.kept[t]) for t in run.record]))
    coords = {"record": list(run.record)} if run.record else {}
    return xr.Dataset(data, coords=coords, attrs={"problem": run.problem.name, "method": method, "steps": run.steps})
