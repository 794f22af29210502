"""The reference simulator: plain NumPy over lanes, written to be compared with the equations by eye."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from sharpmin.core.extras import optional
from sharpmin.core.rho import RhoSchedule, StepInfo

from ._oracle import Oracle, uniforms

if TYPE_CHECKING:
    import numpy as np
    import xarray as xr
    from numpy.typing import NDArray

    from ._problem import Array, Problem
else:
    np = optional("numpy", extra="lab")
    xr = optional("xarray", extra="lab")

_CHUNK = 512  # steps whose draws are made at once


@dataclass(frozen=True)
class Method:
    """How a step looks: which gradients it sees, and how far it climbs."""

    oracle: Oracle
    ascent: str | None  # None, "unit" (rho g / ||g||) or "raw" (rho g)


METHODS = {
    "gd": Method(Oracle.EXACT, None),
    "sgd": Method(Oracle.M_SAM, None),
    "sam": Method(Oracle.EXACT, "unit"),
    "usam": Method(Oracle.EXACT, "raw"),
    "m-sam": Method(Oracle.M_SAM, "unit"),
    "n-sam": Method(Oracle.N_SAM, "unit"),
    "m-usam": Method(Oracle.M_SAM, "raw"),
    "n-usam": Method(Oracle.N_SAM, "raw"),
}


def simulate(
    problem: Problem,
    *,
    method: str,
    lr: Any,
    rho: Any = 0.0,
    steps: int,
    x0: Any,
    seeds: Any = 0,
    clip: float | None = None,
    record: Iterable[int] = (),
    means: bool = True,
) -> xr.Dataset:
    """Run SAM, in one of eight methods, on many lanes at once.

    ```
    y  = x + e,  e = rho_t g / ||g||  (sam, m-sam, n-sam),  rho_t g  (usam, m-usam, n-usam),  0  (gd, sgd)
    x+ = x - lr_t d,  d = G = gradient at y,  or with clip theta:  d = g + min(1, theta ||g|| / ||G - g||) (G - g)
    ```
    g and G are full gradients (gd, sam, usam), or of the same drawn sample (sgd, m-*), or of independent ones (n-*). Where
    rho_t is 0 there is no second pass, as in training: d = g.

    Args:
        problem: see `problems()`.
        method: gd, sgd, sam, usam, m-sam, n-sam, m-usam or n-usam.
        lr: a number, one per lane, or a callable of the step.
        rho: a number, one per lane, or a schedule from `sharpmin.rho`; the same objects as in training.
        steps: T >= 1.
        x0: the start; a number or one per lane, with a last axis of length `dim` if the problem has `dim` > 1.
        seeds: an integer or one per lane; lanes with equal seeds see equal draws. See `samples`.
        clip: theta of the clipped difference, in (0, 1).
        record: steps in 0 ... T at which x_t and f(x_t) are kept.
        means: False leaves out the three statistics over t, which on data cost more than the step itself.

    Returns:
        Dataset over `lane` (lr, rho, x0 and seeds broadcast to it): x_final; over t < T mean_square_gradient
        (of ||grad f(x_t)||^2), min_square_gradient, mean_perturbed_gap (of f(y_t) - f*); x and value over `record`. A
        run that diverges ends in inf or nan.

    Raises:
        ValueError: for an unknown method, bad numbers, or lane counts that do not broadcast.

    >>> from sharpmin import theory
    >>> run = simulate(theory.problems()["quadratic"](curvatures=[2.0]), method="sam", lr=0.15, rho=0.7, steps=500, x0=1.0)
    >>> round(abs(float(run.x_final[0])), 12)  # the two-cycle: lr lam rho / (2 - lr lam)
    0.123529411765
    """
    chosen = _method(method)
    wanted = sorted({int(t) for t in record})
    if steps < 1 or any(t < 0 or t > steps for t in wanted):
        raise ValueError(f"simulate: steps={steps!r} must be >= 1 and record={wanted} within 0 ... steps")
    if clip is not None and not 0 < clip < 1:
        raise ValueError(f"simulate: clip={clip!r} (theta) must be in (0, 1)")
    x, lanes_lr, lanes_rho, lanes_seed = _lanes(problem, lr, rho, x0, seeds)
    lanes, kept = len(x), {}
    sums = np.zeros((2, lanes))
    least = np.full(lanes, np.inf)

    def column(v: Any) -> Any:
        return v if problem.dim == 1 or np.ndim(v) == 0 else v[:, None]

    draws = _draws(problem, chosen.oracle, lanes_seed, steps)
    with np.errstate(over="ignore", invalid="ignore"), _one_blas_thread():
        for t in range(steps):
            if t in wanted:
                kept[t] = x
            lr_t = lr(t) if callable(lr) else lanes_lr
            first, second = next(draws)
            g = _gradient(problem, chosen.oracle, x, first)
            y, big = x, g
            if chosen.ascent is not None:
                radius = _radius(problem, g, StepInfo(t, lr_t), lanes_rho)
                y = x + column(radius) * (g if chosen.ascent == "raw" else _unit(problem, g, column))
                second_pass = _gradient(problem, chosen.oracle, y, second)
                big = np.where(column(radius == 0), g, second_pass)  # as in training: no radius, no second pass
            if means:
                u = problem.norm(g if chosen.oracle is Oracle.EXACT else problem.gradient(x)) ** 2
                sums += u, problem.gap(y)
                least = np.minimum(least, u)
            x = x - column(lr_t) * (big if clip is None else _clipped(problem, g, big, clip, column))
        kept[steps] = x
        return _dataset(problem, method, steps, wanted, kept, (sums / steps, least) if means else None)


def _one_blas_thread() -> Any:
    """Matrices are small here; two BLAS threads that wait for each other on a busy machine cost a factor of thirty."""
    return _blas().limit(limits=1, user_api="blas")


@lru_cache(maxsize=1)
def _blas() -> Any:
    return optional("threadpoolctl", extra="lab").ThreadpoolController()


def _method(name: str) -> Method:
    if name not in METHODS:
        raise ValueError(f"simulate: method={name!r} must be one of {', '.join(METHODS)}")
    return METHODS[name]


def _lanes(problem: Problem, lr: Any, rho: Any, x0: Any, seeds: Any) -> tuple[Array, Any, Any, NDArray[np.int64]]:
    """Broadcast everything to one lane dimension; schedules stay as they are."""
    start = np.asarray(x0, dtype=np.float64)
    start = start[None] if start.ndim < (1 if problem.dim == 1 else 2) else start
    if problem.dim > 1 and start.shape[-1] != problem.dim:
        raise ValueError(f"simulate: x0 has shape {np.shape(x0)}; {problem.name} needs a last axis of length {problem.dim}")
    numbers = {"lr": lr, "rho": rho, "seeds": seeds}
    arrays = {k: np.atleast_1d(np.asarray(v)) for k, v in numbers.items() if not callable(v)}
    for name, array in arrays.items():
        if array.dtype.kind not in ("iu" if name == "seeds" else "iuf") or not np.isfinite(array).all() or (array < 0).any():
            raise ValueError(f"simulate: {name}={numbers[name]!r} must be finite and >= 0{', integers' * (name == 'seeds')}")
    try:
        lanes = np.broadcast_shapes(start.shape[:1], *(array.shape for array in arrays.values()))
    except ValueError:
        shapes = {"x0": start.shape[:1], **{name: array.shape for name, array in arrays.items()}}
        raise ValueError(f"simulate: lane counts do not broadcast: {shapes}; give one value or one per lane") from None
    spread = {name: np.broadcast_to(array, lanes) for name, array in arrays.items()}
    x = np.array(np.broadcast_to(start, lanes + start.shape[1:]))
    return x, spread.get("lr"), spread.get("rho", rho), spread["seeds"].astype(np.int64)


def _draws(problem: Problem, oracle: Oracle, seeds: NDArray[np.int64], steps: int) -> Iterator[tuple[Any, Any]]:
    """Pairs of draws, step by step, each of shape (lanes, batch)."""
    batch = problem.batch
    for begin in range(0, steps, _CHUNK):
        count = min(_CHUNK, steps - begin)
        if oracle is Oracle.EXACT:
            yield from [(None, None)] * count
            continue
        slots = batch if oracle is Oracle.M_SAM else 2 * batch
        chunk = problem.draw(uniforms(seeds, np.arange(begin, begin + count), slots))
        yield from zip(chunk[..., :batch], chunk[..., slots - batch :], strict=True)


def _gradient(problem: Problem, oracle: Oracle, x: Array, draw: Any) -> Array:
    return problem.gradient(x) if oracle is Oracle.EXACT else problem.sample_gradient(x, draw)


def _radius(problem: Problem, g: Array, info: StepInfo, rho: Any) -> Array:
    """rho_t per lane."""
    radius = rho(StepInfo(info.step, info.lr, problem.norm(g))) if isinstance(rho, RhoSchedule) else rho
    return np.asarray(np.broadcast_to(radius, len(g)))


def _unit(problem: Problem, g: Array, column: Any) -> Array:
    """G / ||g||, and 0 where g is 0."""
    n = problem.norm(g)
    return np.asarray(g / column(np.where(n > 0, n, 1.0)))


def _clipped(problem: Problem, g: Array, big: Array, theta: float, column: Any) -> Array:
    difference = big - g
    size = problem.norm(difference)
    factor = np.minimum(1.0, theta * problem.norm(g) / np.where(size > 0, size, 1.0))
    return np.asarray(g + column(np.where(size > 0, factor, 1.0)) * difference)


def _dataset(problem: Problem, method: str, steps: int, wanted: list[int], kept: dict[int, Any], stats: Any) -> xr.Dataset:
    axes = ("lane",) if problem.dim == 1 else ("lane", "coordinate")
    data: dict[str, Any] = {"x_final": (axes, kept[steps])}
    if stats is not None:
        (mean_square, mean_gap), least = stats
        data["mean_square_gradient"] = ("lane", mean_square)
        data["min_square_gradient"] = ("lane", least)
        data["mean_perturbed_gap"] = ("lane", mean_gap)
    if wanted:
        data["x"] = (("record", *axes), np.stack([kept[t] for t in wanted]))
        data["value"] = (("record", "lane"), np.stack([problem.value(kept[t]) for t in wanted]))
    coords = {"record": wanted} if wanted else {}
    return xr.Dataset(data, coords=coords, attrs={"problem": problem.name, "method": method, "steps": steps})
