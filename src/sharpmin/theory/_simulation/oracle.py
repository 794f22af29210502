"""Which gradients a step uses, and reproducible draws: a counter-based generator, a pure function of (seed, step, slot).

The draw of a lane depends only on its seed and the step, so any lane can be replayed, in any order and on any number of
threads. The mixing function is the finalizer of SplitMix64 (Steele, Lea & Flood, Fast Splittable
Pseudorandom Number Generators, OOPSLA 2014).
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Any

from sharpmin.core.extras import optional
from sharpmin.core.rho import COUNTABLE

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from .._problems.problem import Problem
else:
    np = optional("numpy", extra="lab")


class Oracle(StrEnum):
    """Which gradients a step uses in its two passes."""

    EXACT = "exact"  # the full gradient, twice
    M_SAM = "m-sam"  # one sample, used in both passes: SAM as practiced
    N_SAM = "n-sam"  # two independent samples


_GOLDEN = 0x9E3779B97F4A7C15


def _mix(z: NDArray[np.uint64]) -> NDArray[np.uint64]:
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def lane_keys(seeds: NDArray[np.int64]) -> NDArray[np.uint64]:
    """The state from which the draws of each lane are hashed, of the shape of `seeds`."""
    golden = np.uint64(_GOLDEN)
    with np.errstate(over="ignore"):
        return _mix(seeds.astype(np.uint64) * golden + golden)


def uniforms(seeds: Any, steps: Any, slots: int) -> NDArray[np.float64]:
    """Uniform numbers in [0, 1), shape (len(steps), len(seeds), slots): a function of each (seed, step, slot) alone.

    >>> u = uniforms([0, 1], range(3), slots=2)
    >>> u.shape, bool((u[2, 1] == uniforms([1], [2], slots=2)).all())
    ((3, 2, 2), True)
    """
    key = lane_keys(np.atleast_1d(np.asarray(seeds)))[None, :, None]
    step = np.atleast_1d(np.asarray(steps)).astype(np.uint64)[:, None, None]
    slot = np.arange(1, slots + 1, dtype=np.uint64)[None, None, :]
    golden = np.uint64(_GOLDEN)
    with np.errstate(over="ignore"):
        bits = _mix(_mix(key + (step + np.uint64(1)) * golden) + slot * golden)
    return np.asarray((bits >> np.uint64(11)).astype(np.float64) * 2.0**-53)


def samples(problem: Problem, seed: int, step: int) -> tuple[Any, Any]:
    """The draw of one lane at one step: `(xi, xi')`, sample indices; arrays where the problem draws batches.

    m-SAM (and SGD) uses `xi` in both passes, n-SAM climbs with `xi` and descends with `xi'`.

    Raises:
        TypeError: if seed or step is not an integer.
        ValueError: if one is negative.

    >>> from sharpmin import theory
    >>> theory.samples(theory.problems()["e1"](beta=1.0, mu=0.1, rho=1.0), seed=3, step=5)
    (1, 0)
    """
    for name, value in (("seed", seed), ("step", step)):
        if isinstance(value, bool) or not hasattr(value, "__index__"):
            raise TypeError(f"samples: {name}={value!r} must be an integer >= 0")
        if int(value) < 0:
            raise ValueError(f"samples: {name}={value!r} must be an integer >= 0")
        if int(value) >= COUNTABLE:
            raise ValueError(f"samples: {name} has {int(value).bit_length()} bits; it must be below 2**63")
    both = problem.draw(uniforms([seed], [step], 2 * problem.batch)[0, 0])
    xi, other = both[: problem.batch], both[problem.batch :]
    return (int(xi[0]), int(other[0])) if problem.batch == 1 else (xi, other)
