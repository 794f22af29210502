"""The compiled engine: turns a run into arrays for the kernels, in chunks of steps, with tiles of lanes spread over threads.

It runs 1-D hinge problems, and exact steps on diagonal quadratics and on `Pieces`, with radii of the form min(a_t, c_t n),
n = ||g||. All schedules of `sharpmin.rho` have this form, nested ones too, unless both depend on n. The reference engine
runs everything else.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields
from functools import partial
from heapq import merge
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from sharpmin.core.extras import optional
from sharpmin.core.rho import Capped, RhoSchedule, StepInfo, Unnormalized

from .._problems.dense import DiagonalQuadratic
from .._problems.hinge import Hinge, HingeProblem
from .._problems.pieces import Pieces
from .oracle import Oracle, lane_keys
from .run import CheckedRun, Recorded

if TYPE_CHECKING:
    import numpy as np

    from .._problems.problem import Array
    from . import jit, kernel, kernel_pieces, kernel_quadratic, kernel_whole
else:
    np = optional("numpy", extra="lab")
    jit = optional("sharpmin.theory._simulation.jit", extra="lab")  # imports numba at the first simulation
    kernel = optional("sharpmin.theory._simulation.kernel", extra="lab")
    kernel_pieces = optional("sharpmin.theory._simulation.kernel_pieces", extra="lab")
    kernel_quadratic = optional("sharpmin.theory._simulation.kernel_quadratic", extra="lab")
    kernel_whole = optional("sharpmin.theory._simulation.kernel_whole", extra="lab")

CHUNK = 8192  # steps whose lr_t and rho_t are computed at once
THREADS = os.cpu_count() or 1
_TINY = 2.0**-600
_WORTH_THREADS = 2_000_000  # lane-steps


def supports(run: CheckedRun) -> bool:
    """Whether the compiled engine can take this run."""
    if not jit.AVAILABLE:
        return False
    exact = isinstance(run.problem, Pieces) or (isinstance(run.problem, DiagonalQuadratic) and run.problem.dim <= 64)
    known = isinstance(run.problem, HingeProblem) or (exact and run.method.oracle is Oracle.EXACT)
    if not isinstance(run.rho, RhoSchedule):
        return known
    one_lr = callable(run.lr) or bool((run.lr == run.lr[0]).all())
    return known and one_lr and _separable(run.rho)


def _separable(rho: Any) -> bool:
    """Whether the radius is min(a_t, c_t n): true of sharpmin's schedules, of `Unnormalized` if its inner one ignores n."""
    if not isinstance(rho, RhoSchedule):
        return True
    if type(rho).__module__ not in (RhoSchedule.__module__, Capped.__module__):  # a user's class
        return False
    inner = [getattr(rho, item.name) for item in fields(rho)]  # type: ignore[arg-type]
    return all(map(_separable, inner)) and not (isinstance(rho, Unnormalized) and any(map(_sees_norm, inner)))


def _sees_norm(rho: Any) -> bool:
    if not isinstance(rho, RhoSchedule):
        return False
    return isinstance(rho, (Unnormalized, Capped)) or any(_sees_norm(getattr(rho, f.name)) for f in fields(rho))  # type: ignore[arg-type]


def run_compiled(run: CheckedRun) -> Recorded:
    """All steps of all lanes."""
    out, lanes = Recorded.begin(run), len(run.x0)
    width = _width(run.problem)
    tiles = -(-lanes // width)
    x = _padded(run.x0, tiles * width)
    sums, least = np.zeros((2, len(x))), np.full(len(x), np.inf)
    advance = _engine(run, tiles, x, sums, least)
    marks = merge(sorted(run.record), range(0, run.steps, CHUNK), (run.steps, run.steps))
    for begin, end in pairwise(marks):
        if begin in run.record or begin == run.steps:
            out.kept[begin] = x[:lanes].copy()
        if begin < end:
            advance(begin, end)
    out.sums, out.least = sums[:, :lanes], least[:lanes]
    return out


def _engine(run: CheckedRun, tiles: int, x: Array, sums: Array, least: Array) -> Callable[[int, int], None]:
    """A function that runs the steps begin ... end - 1 of every lane."""
    ones, width = np.ones(len(x)), _width(run.problem)
    lr = ones if callable(run.lr) else _padded(run.lr, len(x))
    scale = ones if isinstance(run.rho, RhoSchedule) else _padded(run.rho, len(x))
    keys = lane_keys(_padded(run.seeds, len(x)))
    problem, clip = run.problem, -1.0 if run.clip is None else run.clip
    oracle = {Oracle.EXACT: jit.EXACT, Oracle.M_SAM: jit.SAME, Oracle.N_SAM: jit.INDEPENDENT}[run.method.oracle]
    ascent = {None: jit.NONE, "unit": jit.UNIT, "raw": jit.RAW}[run.method.ascent]
    threads = min(THREADS, tiles)

    def advance(begin: int, end: int) -> None:
        lr_t, a_t, c_t, kind = _schedules(run, begin, end)
        modes = (oracle, ascent, kind, run.clip is not None, run.means)
        if isinstance(problem, HingeProblem):
            table = partial(_hinge_tiles, problem, begin, modes, clip)
        elif isinstance(problem, DiagonalQuadratic):
            table = partial(_quadratic_tiles, problem, modes, clip)
        elif isinstance(problem, Pieces):
            table = partial(_pieces_lanes, problem, modes, clip)
        busy = threads if len(x) * (end - begin) >= _WORTH_THREADS else 1
        edges = [width * (tiles * k // busy) for k in range(busy + 1)]
        parts = [slice(low, high) for low, high in pairwise(edges)]

        def work(part: slice) -> None:
            sliced = sums[0, part], sums[1, part]  # one-dimensional: of one layout, so that kernels are compiled once
            table(x[part], keys[part], lr[part], scale[part], lr_t, a_t, c_t, sliced, least[part])

        if busy == 1:
            work(parts[0])
        else:
            with ThreadPoolExecutor(busy) as pool:
                list(pool.map(work, parts))

    return advance


def _hinge_tiles(problem: HingeProblem, begin: int, modes: Any, clip: float, *lanes: Any) -> None:
    x, keys, lr, scale, lr_t, a_t, c_t, sums, least = lanes
    oracle, ascent, kind, clipped, means = modes
    rows = (problem.mean,) if oracle == jit.EXACT else problem.components
    flat = any(h.flat() for h in rows)
    plain = ascent == jit.UNIT and kind == jit.FIXED and not clipped and not flat
    (ma,), (mb,), mt, (mc,) = _tables([problem.mean], 2)
    edges = np.ceil(np.cumsum(np.asarray(problem.probabilities))[:-1] * 2.0**53).astype(np.int64)
    edges = edges if len(edges) else np.array([2**62])
    if plain and oracle == jit.EXACT and len(mt) == 2:
        steps = kernel_whole.EXACT_STEPS[means]
        steps(x, lr, scale, lr_t, a_t, ma, mb, mt, mc, problem.least, sums, least)
        return
    a, b, t, c = _tables(problem.components, 2)
    if plain and len(rows) == 2 and len(t) <= 4 and not (means and problem.mean.hinges):
        a, b, t, c = _tables(rows, 4)
        steps = kernel_whole.OF_TWO[means, oracle == jit.INDEPENDENT]
        steps(x, keys, lr, scale, lr_t, a_t, begin, a, b, t, c, edges, ma, mb, problem.least, sums, least)
        return
    bounds = (float(abs(a).max()), float(abs(b).max()), t, abs(c).max(axis=0))
    kernel.hinge_steps(
        x, keys, lr, scale, scale, lr_t, a_t, c_t, begin, a, b, t, c, (ma, mb, mt, mc), bounds, edges, (*modes, flat), clip,
        sums, least, problem.least,
    )  # fmt: skip


def _quadratic_tiles(problem: DiagonalQuadratic, modes: Any, clip: float, *lanes: Any) -> None:
    x, _, lr, scale, lr_t, a_t, c_t, sums, least = lanes
    _, ascent, kind, clipped, means = modes
    lam = np.append(problem.curvatures, [0.0] * (problem.dim % 2))
    scale = 0.0 * scale if ascent == jit.NONE else scale  # y = x + 0 g
    modes = (ascent == jit.UNIT, kind, clipped, means)
    kernel_quadratic.quadratic_steps(x, lam, lr, scale, scale, lr_t, a_t, c_t, modes, clip, sums, least)


def _pieces_lanes(problem: Pieces, modes: Any, clip: float, *lanes: Any) -> None:
    x, _, lr, scale, lr_t, a_t, c_t, sums, least = lanes
    _, ascent, kind, clipped, means = modes
    scale = 0.0 * scale if ascent == jit.NONE else scale  # y = x + 0 g
    modes = (ascent == jit.UNIT, kind, clipped, means)
    parts = (problem.conditions, problem.slopes, problem.constants)
    kernel_pieces.pieces_steps(x, *parts, lr, scale, scale, lr_t, a_t, c_t, modes, clip, sums, least)


def _width(problem: Any) -> int:
    """The number of lanes in a tile; 1 for `Pieces`, whose cells differ from lane to lane."""
    return 1 if isinstance(problem, Pieces) else jit.TILE


def _schedules(run: CheckedRun, begin: int, end: int) -> tuple[Array, Array, Array, int]:
    """lr_t, a_t, c_t over the steps of a chunk, and the formula of the radius: a, c n or min(a, c n)."""
    steps = range(begin, end)
    rate = run.lr
    lr_t = np.array([rate(t) for t in steps]) if callable(rate) else np.ones(len(steps))
    if not isinstance(run.rho, RhoSchedule):
        return lr_t, np.ones(len(steps)), np.ones(len(steps)), jit.FIXED
    rho, given = run.rho, lr_t if callable(rate) else np.full(len(steps), rate[0])
    if not _sees_norm(rho):
        a_t = np.array([float(rho(StepInfo(t, float(v)))) for t, v in zip(steps, given, strict=True)])
        return lr_t, a_t, np.ones(len(steps)), jit.FIXED
    pairs = [_parts(rho, t, float(v)) for t, v in zip(steps, given, strict=True)]
    a_t, c_t = (np.array(values) for values in zip(*pairs, strict=True))
    return lr_t, a_t, c_t, jit.CAPPED


def _parts(rho: RhoSchedule, step: int, lr: float) -> tuple[float, float]:
    """(a, c) of the radius min(a, c n): its value at n = inf, and its slope at a tiny n."""
    a = float(rho(StepInfo(step, lr, math.inf)))
    return math.inf if math.isnan(a) else a, float(rho(StepInfo(step, lr, _TINY))) / _TINY


def _padded(values: Any, lanes: int) -> Any:
    """`values` extended to `lanes` lanes by repeating the last one."""
    missing = lanes - len(values)
    return np.concatenate([values, np.repeat(values[-1:], missing, axis=0)])


def _tables(rows: Sequence[Hinge], least: int) -> tuple[Array, Array, Array, Array]:
    """a, b over samples; the knots of all samples together; jumps over samples x knots, padded to pairs, at least `least`."""
    knots = sorted({t for h in rows for t in h.knots()})
    width = max(least, 2 * -(-len(knots) // 2))
    t, c = np.zeros(width), np.zeros((len(rows), width))
    t[: len(knots)] = knots
    for i, h in enumerate(rows):
        for knot, jump in h.hinges:
            c[i, knots.index(knot)] = jump
    return np.array([h.a for h in rows]), np.array([h.b for h in rows]), t, c
