"""The reference engine: plain NumPy over lanes, written for comparison with the equations by eye. Runs all problems."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from sharpmin.core.extras import optional
from sharpmin.core.rho import RhoSchedule, StepInfo

from .oracle import Oracle, uniforms
from .run import CheckedRun, Recorded

if TYPE_CHECKING:
    import numpy as np

    from .._problems.problem import Array, Problem
else:
    np = optional("numpy", extra="lab")

CHUNK = 512  # steps whose draws are made at once


def run_reference(run: CheckedRun) -> Recorded:
    """All steps of all lanes."""
    out, x, problem, method = Recorded.begin(run), run.x0, run.problem, run.method
    draws = _draws(run)
    with np.errstate(over="ignore", invalid="ignore"), _one_blas_thread():
        for t in range(run.steps):
            if t in run.record:
                out.kept[t] = x
            lr = run.lr(t) if callable(run.lr) else run.lr
            first, second = next(draws)
            g = _gradient(problem, method.oracle, x, first)
            y, big = x, g
            if method.ascent is not None:
                radius = _radius(problem, g, StepInfo(t, lr), run.rho)
                y = x + _column(problem, radius) * (g if method.ascent == "raw" else _unit(problem, g))
                second_pass = _gradient(problem, method.oracle, y, second)
                big = np.where(_column(problem, radius == 0), g, second_pass)  # as in training: no radius, no second pass
            if run.means:
                u = problem.norm(g if method.oracle is Oracle.EXACT else problem.gradient(x)) ** 2
                out.sums += u, problem.gap(y)
                out.least = np.fmin(out.least, u)  # fmin ignores the nan of a lane that diverges
            x = x - _column(problem, lr) * (big if run.clip is None else _clipped(problem, g, big, run.clip))
    out.kept[run.steps] = x
    return out


def _one_blas_thread() -> Any:
    """Limit BLAS to one thread: the matrices are small, and two threads are thirty times slower on a busy machine."""
    return _blas().limit(limits=1, user_api="blas")


@lru_cache(maxsize=1)
def _blas() -> Any:
    return optional("threadpoolctl", extra="lab").ThreadpoolController()


def _draws(run: CheckedRun) -> Iterator[tuple[Any, Any]]:
    """For every step, the draws of its two passes, each of shape (lanes, batch)."""
    batch = run.problem.batch
    for begin in range(0, run.steps, CHUNK):
        count = min(CHUNK, run.steps - begin)
        if run.method.oracle is Oracle.EXACT:
            yield from [(None, None)] * count
            continue
        slots = batch if run.method.oracle is Oracle.M_SAM else 2 * batch
        chunk = run.problem.draw(uniforms(run.seeds, np.arange(begin, begin + count), slots))
        yield from zip(chunk[..., :batch], chunk[..., slots - batch :], strict=True)


def _column(problem: Problem, v: Any) -> Any:
    """One number per lane, reshaped so that it multiplies points."""
    return v if problem.dim == 1 or np.ndim(v) == 0 else v[:, None]


def _gradient(problem: Problem, oracle: Oracle, x: Array, draw: Any) -> Array:
    return problem.gradient(x) if oracle is Oracle.EXACT else problem.sample_gradient(x, draw)


def _radius(problem: Problem, g: Array, info: StepInfo, rho: Array | RhoSchedule) -> Array:
    """rho_t per lane."""
    if not isinstance(rho, RhoSchedule):
        return rho
    return np.asarray(np.broadcast_to(rho(StepInfo(info.step, info.lr, problem.norm(g))), len(g)))


def _unit(problem: Problem, g: Array) -> Array:
    """g / ||g||, and 0 where g = 0."""
    n = problem.norm(g)
    return np.asarray(g / _column(problem, np.where(n > 0, n, 1.0)))


def _clipped(problem: Problem, g: Array, big: Array, theta: float) -> Array:
    difference = big - g
    size = problem.norm(difference)
    factor = np.minimum(1.0, theta * problem.norm(g) / np.where(size > 0, size, 1.0))
    return np.asarray(g + _column(problem, np.where(size > 0, factor, 1.0)) * difference)
