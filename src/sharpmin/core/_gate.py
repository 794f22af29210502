"""A radius that is 0 unless the gradient is large against its running mean."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, TypeAlias

from ._numbers import finite
from ._schedule import Rho, RhoSchedule, Scalar, StepInfo, as_schedule, radius

Signed: TypeAlias = float
"""A number that may be negative, unlike all others in schedules."""


@dataclass(frozen=True)
class Gate(RhoSchedule):
    """AE-SAM's policy: `rho` (a number or a schedule) where n^2 >= mu_t + c_t sigma_t, and 0 elsewhere; n is the dual norm.

    ```
    mu_t      = delta mu_{t-1}      + (1 - delta) n^2              both from 0
    sigma_t^2 = delta sigma_{t-1}^2 + (1 - delta) (n^2 - mu_t)^2
    c_t       = (1 - t / total) first + (t / total) last           and `last` from the step `total` on
    ```

    Jiang, Yang, Zhang & Kwok, An Adaptive Policy to Employ Sharpness-Aware Minimization, ICLR 2023, arXiv:2304.14647. Both
    averages include the present step before the test, as the paper's equations do. `first` and `last` are its lambda_2 = 1 and
    lambda_1 = -1, so SAM is rare at first and frequent at the end. Starting the averages at 0 is our choice: it makes
    the first steps SAM steps.

    The decision is made after the first gradient, so `opt.needs_second_pass` is right only inside the block:
    `with opt.perturbed():`, and in it `if opt.needs_second_pass:` around forward and backward. A closure runs once by itself.
    On an accelerator it costs one read of the norm a step, which waits for the device, and is refused in a CUDA graph. It needs
    scope "global", where all ranks see one norm, and an ascent that takes the gradient at w. Steps with `rho` = 0
    and skipped steps do not enter the averages.

    Args:
        rho: the radius of the steps with a second pass.
        total: the steps of the run, >= 1.
        delta: the share that the averages keep, in [0, 1).
        first, last: c at the first step and from the step `total` on.

    Raises:
        ValueError: if `delta` is not in [0, 1), or another number is out of its range.

    >>> gate = Gate(0.05, total=100)
    >>> usual = {"mean": 1.0, "variance": 0.25}
    >>> [gate(StepInfo(step=0, dual_norm=n, memory=usual)) for n in (1.0, 2.0)]
    [0.0, 0.05]
    >>> Gate(0.05, total=100, delta=0.5).remember(StepInfo(step=0, dual_norm=2.0, memory=usual))
    {'mean': 2.5, 'variance': 1.25}
    """

    remembers: ClassVar[tuple[str, ...]] = ("mean", "variance")
    rho: Rho
    total: int
    delta: float = 0.9
    first: Signed = 1.0
    last: Signed = -1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("first", "last"):
            finite(getattr(self, name), name, "Gate")
        if self.delta >= 1:
            raise ValueError(f"Gate: delta={self.delta!r}; delta must be in [0, 1)")

    def active(self, step: int, lr: Scalar) -> bool:
        """Whether `rho` can be positive at this step."""
        return as_schedule(self.rho).active(step, lr)

    def __call__(self, info: StepInfo) -> Scalar:
        """Return `rho` at this step, or 0.0.

        Raises:
            ValueError: without an optimizer that stores the averages, as in `sharpmin.theory`.
        """
        mean, variance = self._averages(info)
        share = min(1.0, info.step / self.total)
        bound = mean + ((1 - share) * self.first + share * self.last) * math.sqrt(variance)
        return radius(self.rho, info) if info.dual_norm * info.dual_norm >= bound else 0.0

    def remember(self, info: StepInfo) -> dict[str, float]:
        """Return both averages with this step's norm; unchanged if it is not finite."""
        return dict(zip(self.remembers, self._averages(info), strict=True))

    def _averages(self, info: StepInfo) -> tuple[float, float]:
        if info.memory is None:
            raise ValueError(
                f"{self!r} has running averages, which need an optimizer to store them; use it in one, "
                "such as sharpmin.SAM(base, rho=...)"
            )
        mean, variance = (info.memory.get(name, 0.0) for name in self.remembers)
        square = info.dual_norm * info.dual_norm
        if not math.isfinite(square):
            return mean, variance
        mean = self.delta * mean + (1 - self.delta) * square
        return mean, self.delta * variance + (1 - self.delta) * (square - mean) ** 2
