"""Genes: numbers in [0, 1], which evolution varies, turned into constants, schedules and lengths."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sharpmin.core.extras import optional
from sharpmin.core.rho import Capped, InverseSqrt, ProportionalToLR, RhoSchedule, Until

from .._simulation.run import METHODS
from .conjecture import Conjecture, takes

if TYPE_CHECKING:
    import numpy as np

    from .._problems.problem import Array
else:
    np = optional("numpy", extra="lab")

COMMON = 8
"""Genes that every lane has: beta, kappa, rho, lr, T, c, theta, S."""


class Reader:
    """Reads a table of genes column by column; values outside [0, 1] are clipped."""

    def __init__(self, genes: Array):
        self._genes, self._at = np.clip(genes, 0.0, 1.0), 0

    def many(self, count: int) -> Array:
        """The next `count` columns, in [0, 1], shape (lanes, count)."""
        self._at += count
        return np.asarray(self._genes[:, self._at - count : self._at])

    def linear(self, low: Any, high: Any) -> Array:
        """One column, mapped linearly to [low, high]."""
        return np.asarray(low + (high - low) * self.many(1)[:, 0])

    def log(self, low: Any, high: Any) -> Array:
        """One column, mapped to [low, high] on a log scale; a twentieth of [0, 1] at either end gives exactly low or high."""
        u = np.clip((self.many(1)[:, 0] - 0.05) / 0.9, 0.0, 1.0)
        low, high = np.broadcast_to(low, u.shape), np.broadcast_to(high, u.shape)
        inner = low * (high / low) ** u
        return np.asarray(np.where(u <= 0, low, np.where(u >= 1, high, inner)))

    def signed(self) -> Array:
        """One column, mapped to [-10, 10] with most values near 0."""
        return np.asarray(np.sinh(6.0 * (self.many(1)[:, 0] - 0.5)))

    def signed_many(self, count: int) -> Array:
        """The same as `signed` for `count` columns."""
        return np.asarray(np.sinh(6.0 * (self.many(count) - 0.5)))


@dataclass
class Constants:
    """The constants of runs, one value per lane."""

    beta: Array
    kappa: Array
    rho: Array
    lr: Array
    steps: Any
    c: Array
    clip: Array
    switch: Any

    def take(self, lanes: Any) -> Constants:
        """The constants of these lanes."""
        return Constants(**{name: value[lanes] for name, value in vars(self).items()})


def settings(conjecture: Conjecture, reader: Reader, longest: int | None = None) -> Constants:
    """Constants from the common genes, within the ranges of the conjecture and with T <= `longest`."""
    ranges = conjecture.ranges
    beta = reader.log(*ranges["beta"])
    kappa = reader.log(*ranges["kappa"])
    rho = reader.log(*ranges["rho"])
    lr = reader.log(*ranges["lr_beta"]) / beta
    low, high = ranges["steps"]
    high = high if longest is None else max(low, min(high, float(longest)))
    steps = np.rint(reader.log(low, high)).astype(np.int64)
    c, clip = reader.linear(0.01, 0.99) / beta, reader.linear(0.01, 0.99)
    switch = np.maximum(1, np.rint(reader.many(1)[:, 0] * steps)).astype(np.int64)
    return Constants(beta, kappa, rho, lr, steps, c, clip, switch)


def radii_of(conjecture: Conjecture, s: Constants, lr: Array) -> tuple[Array, Array]:
    """`radii` and `caps` for `population.Runs`, given lr of shape (horizon, lanes)."""
    t = np.arange(len(lr))[:, None]
    radii = s.rho * np.ones_like(lr)
    if conjecture.radius == "inverse-sqrt":
        radii = s.rho / np.sqrt(t + 1.0) * np.ones_like(lr)
    if conjecture.radius == "sqrt-lr":
        radii = s.rho * np.sqrt(s.beta * lr)
    if conjecture.radius == "switched":
        radii = np.where(t < s.switch, s.rho, 0.0)
    caps = s.c if conjecture.radius == "capped" else np.full(len(s.rho), np.inf)
    return np.ascontiguousarray(radii), caps


def radius_object(conjecture: Conjecture, constants: dict[str, Any]) -> Any:
    """The radius of a run as `simulate` takes it: a number or a schedule; None for a method without an ascent step."""
    rho = constants["rho"]
    if METHODS[conjecture.method].ascent is None:
        return None
    if isinstance(rho, RhoSchedule):  # of a bound that takes the schedule
        return rho
    if conjecture.radius == "inverse-sqrt":
        return InverseSqrt(rho)
    if conjecture.radius == "sqrt-lr":
        return ProportionalToLR(rho, lr=1 / constants["beta"], power=0.5)
    if conjecture.radius == "capped":
        return Capped(rho, c=constants["c"])
    return Until(rho, stop=constants["switch"]) if conjecture.radius == "switched" else rho


def constants_of(conjecture: Conjecture, s: Constants, i: int, f: dict[str, float]) -> dict[str, Any]:
    """The constants of lane i for the bound; `f` holds those that depend on the function and the start."""
    beta, mu = f["beta"], f["mu"]
    told: dict[str, Any] = {
        **f, "kappa": beta / mu if mu > 0 else np.inf, "rho": float(s.rho[i]), "rho0": float(s.rho[i]),
        "steps": int(s.steps[i]), "lr": float(s.lr[i]), "c": float(s.c[i]),
        "oracle": str(conjecture.oracle).replace("exact", "n-sam"),
        "clip": float(s.clip[i]), "switch": int(s.switch[i]),
    }  # fmt: skip
    if conjecture.scheduled:
        told["rho"] = radius_object(conjecture, told)
    return told


def step_sizes(conjecture: Conjecture, constants: dict[str, Any]) -> Any:
    """lr of a run: a number or a schedule; nan where the prescribed step size refuses these constants."""
    if conjecture.step_size is None:
        return constants["lr"]
    try:
        return conjecture.step_size(**{name: constants[name] for name in takes(conjecture.step_size)})
    except (ValueError, ArithmeticError):
        return np.nan
