"""A conjecture: an upper bound as a Python function of named constants, and the runs for which it is claimed."""

from __future__ import annotations

import difflib
import hashlib
import inspect
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from numbers import Real
from typing import Any

from sharpmin.core.rho import real

from .._simulation.oracle import Oracle
from .._simulation.run import METHODS
from .._statements.situation import QUANTITIES, SETTINGS
from .._statements.theorem import Theorem, registered

CONSTANTS = {
    "beta": "smoothness of f; of every sample as well, unless beta_component is taken",
    "mu": "strong convexity; under PL, the PL constant",
    "kappa": "beta/mu",
    "rho": "the radius; its first value if it decays, the factor of ||g|| in usam",
    "rho0": "the same as rho",
    "steps": "T",
    "delta": "f(x0) - f*",
    "distance": "||x0 - x*||",
    "lr": "the step size",
    "sigma": "sup over x of (E ||grad l(x; xi) - grad f(x)||^2)^(1/2); 0 without noise",
    "beta_component": "root mean square of the smoothness of the samples",
    "oracle": "m-sam or n-sam; deterministic methods count as n-sam with one sample",
    "c": "of radius capped: rho_t = min(rho, c ||g||)",
    "clip": "theta of radius clipped",
    "switch": "of radius switched: rho_t = 0 from step S on",
}
"""The constants that a bound may take."""

RADII = ("constant", "inverse-sqrt", "sqrt-lr", "capped", "clipped", "switched")
"""rho_t: rho, rho/sqrt(t + 1), rho sqrt(beta lr_t), min(rho, c ||g||), rho with clipped difference, 0 from step S on."""

RANGES = {"beta": (0.1, 10.0), "kappa": (1.0, 100.0), "rho": (0.01, 10.0), "steps": (1.0, 10_000.0), "lr_beta": (1e-3, 1.0)}
"""Default ranges of the search; a bound that comes from a statement refuses constants outside its conditions."""

_WEAKEST = ("nonconvex", "pl", "convex", "strongly-convex")
WITH_MU = ("strongly-convex", "pl")
"""The assumptions with a constant mu."""

_FIXES = {"capped": "c", "clipped": "clip", "switched": "switch"}


@dataclass(frozen=True, eq=False)
class Conjecture:
    """An upper bound and all runs for which it is claimed; made by `conjecture`.

    Attributes:
        bound: the function.
        name: the name of the function, or the id of the statement.
        id: the registered statement whose formula the bound is, or empty.
        takes: the names among `CONSTANTS` that the bound takes.
        method, setting, quantity, radius: the runs for which it is claimed.
        ranges: (low, high) for each name in `RANGES`.
        step_size: gives lr, or a schedule, from constants; None where lr is free.
        per_step: whether the bound is on T times the quantity.
        scheduled: whether the bound takes the schedule of the radius in place of its first value.
    """

    bound: Callable[..., Any]
    name: str
    id: str
    takes: tuple[str, ...]
    method: str
    setting: str
    quantity: str
    radius: str
    ranges: Mapping[str, tuple[float, float]]
    step_size: Callable[..., Any] | None = None
    per_step: bool = False
    scheduled: bool = False

    @property
    def oracle(self) -> Oracle:
        """Which gradients a step uses."""
        return METHODS[self.method].oracle

    def limit(self, constants: Mapping[str, Any]) -> float:
        """The bound at these constants; nan where it raises `ValueError`, since they are outside its conditions.

        Raises:
            TypeError: if it does not return a number.
        """
        try:
            value = self.bound(**{name: constants[name] for name in self.takes})
        except (ValueError, ArithmeticError):
            return math.nan
        if isinstance(value, float):
            return value / constants["steps"] if self.per_step else value
        if isinstance(value, bool) or not isinstance(value, Real):
            raise TypeError(f"refute: {self.name} returned {value!r}, a {type(value).__name__}; it must return a number")
        return real(value) / constants["steps"] if self.per_step else real(value)

    def fingerprint(self) -> dict[str, Any]:
        """Everything about the conjecture that determines the result of a search, as JSON values."""
        functions = [_digest(f) for f in (self.bound, self.step_size) if f is not None]
        return {
            "bound": self.name, "source": "-".join(functions), "takes": list(self.takes), "method": self.method,
            "setting": self.setting, "quantity": self.quantity, "radius": self.radius,
            "ranges": {name: list(pair) for name, pair in self.ranges.items()}, "per_step": self.per_step,
        }  # fmt: skip


def conjecture(
    bound: Callable[..., Any] | Theorem,
    *,
    method: str | None = None,
    assumptions: str | None = None,
    quantity: str | None = None,
    radius: str | None = None,
    step_size: Callable[..., Any] | None = None,
    **ranges: Any,
) -> Conjecture:
    """Check a claim; what is not given is taken from the statement, if the bound is one.

    Raises:
        TypeError: if the bound is not a function, or takes an unknown constant.
        ValueError: for an unknown name, a wrong range, or a constant that does not exist under these assumptions.
    """
    given = {"method": method, "assumptions": assumptions, "quantity": quantity, "radius": radius}
    if isinstance(bound, Theorem):
        return _of_statement(bound, given, step_size, ranges)
    if not callable(bound):
        raise TypeError(f"refute: bound={bound!r} must be a function such as def bound(*, beta, rho, steps, delta, lr)")
    names = takes(bound)
    missing = [f"{name}=" for name in ("method", "assumptions", "quantity") if given[name] is None]
    if missing:
        raise ValueError(f"refute: for which runs is it claimed? give {', '.join(missing)}")
    return _checked(bound, getattr(bound, "__name__", "bound"), "", names, given, step_size, ranges, per_step=False)


def _of_statement(theorem: Theorem, given: dict[str, Any], step_size: Any, ranges: dict[str, Any]) -> Conjecture:
    if theorem.kind not in ("upper", "numeric"):
        raise ValueError(f"refute: {theorem.id} is {theorem.kind}, no upper bound on a class; see verify({theorem.id!r})")
    original = registered().get(theorem.id, theorem)
    shipped, names = original is theorem, takes(original.formula)
    said = _said(theorem, given["method"])
    words = {name: said[name] if value is None else value for name, value in given.items()}
    missing = [f"{name}=" for name, value in words.items() if value is None]
    if missing:
        raise ValueError(f"refute: {theorem.id} leaves open for which runs it is claimed; give {', '.join(missing)}")
    if step_size is None and "lr" not in names:
        step_size = theorem.prescribed
    per_step = bool(theorem.rule and theorem.rule.per_step)
    return _checked(
        theorem.formula, theorem.id if shipped else f"a formula for {theorem.id}", theorem.id if shipped else "", names, words,
        step_size, ranges, per_step=per_step, scheduled=_scheduled(original.formula),
    )  # fmt: skip


def _said(theorem: Theorem, method: str | None) -> dict[str, str | None]:
    """Method, assumptions, quantity and radius of a statement, for its first radius; None for each that it leaves open."""
    at = [situation for place in theorem.places for situation in place.situations()]
    oracle = METHODS[method].oracle if method in METHODS else at[0][0] if at else "exact"
    kind = next((radius for name, _, radius in at if name == oracle), "constant")
    settings = [setting for name, setting, radius in at if (name, radius) == (oracle, kind)]
    name = "sam" if oracle == "exact" else str(oracle)
    schedule = theorem.rule.schedule if theorem.rule else "inverse-sqrt"
    return {
        "method": name.replace("sam", "usam") if kind == "unnormalized" else name,
        "assumptions": next((s for s in _WEAKEST if s in settings), None),
        "quantity": theorem.rule.quantity if theorem.rule else None,
        "radius": {"unnormalized": "constant", "decaying": schedule}.get(kind, kind),
    }


def _checked(
    bound: Callable[..., Any], name: str, id_: str, names: tuple[str, ...], words: Mapping[str, Any], step_size: Any,
    ranges: Mapping[str, Any], *, per_step: bool, scheduled: bool | None = None,
) -> Conjecture:  # fmt: skip
    radius = words["radius"] or "constant"
    for what, value, known in (
        ("method", words["method"], METHODS), ("assumptions", words["assumptions"], SETTINGS),
        ("quantity", words["quantity"], QUANTITIES), ("radius", radius, RADII),
    ):  # fmt: skip
        if value not in known:
            raise ValueError(f"refute: {what}={value!r} must be one of {', '.join(known)}")
    if any(p.kind is p.VAR_KEYWORD for p in inspect.signature(bound).parameters.values()) and len(names) == len(CONSTANTS):
        missing = {c for kind, c in _FIXES.items() if kind != radius} | (
            set() if words["assumptions"] in WITH_MU else {"mu", "kappa"}
        )
        names = tuple(c for c in names if c not in missing)  # it takes **keywords
    made = Conjecture(
        bound, name, id_, names, words["method"], words["assumptions"], words["quantity"], radius, _ranges(ranges),
        step_size, per_step, _scheduled(bound) if scheduled is None else scheduled,
    )  # fmt: skip
    _refuse(made)
    return made


def _refuse(made: Conjecture) -> None:
    """Raise `ValueError` where method, assumptions, quantity, radius and constants contradict each other."""
    for name in ("mu", "kappa"):
        if name in made.takes and made.setting not in WITH_MU:
            raise ValueError(
                f"refute: {made.name} takes {name}, and {made.setting} functions have no mu; assume strongly-convex or pl"
            )
    for radius, name in _FIXES.items():
        if name in made.takes and made.radius != radius:
            raise ValueError(f"refute: {made.name} takes {name}, which only radius={radius!r} has; given {made.radius!r}")
    ascent, least = METHODS[made.method].ascent, made.quantity == "least-squared-gradient"
    far = made.quantity == "squared-distance" and made.setting != "strongly-convex"
    for wrong, why in (
        (
            least and made.oracle is not Oracle.EXACT,
            "least-squared-gradient is of deterministic methods; take squared-gradient",
        ),
        (far, "squared-distance needs one minimizer: assume strongly-convex"),
        (ascent is None and made.radius != "constant", f"{made.method} has no radius; leave out radius={made.radius!r}"),
        (ascent == "raw" and made.radius != "constant", f"{made.method} takes radius='constant', given {made.radius!r}"),
        (made.radius == "clipped" and made.oracle is Oracle.N_SAM, "radius='clipped' needs one sample in both passes"),
    ):
        if wrong:
            raise ValueError(f"refute: {why}")


def takes(bound: Callable[..., Any]) -> tuple[str, ...]:
    """The names of the constants that the bound takes."""
    parameters = inspect.signature(bound).parameters.values()
    if any(p.kind is p.VAR_KEYWORD for p in parameters):
        return tuple(CONSTANTS)
    names = [p.name for p in parameters]
    for p in parameters:
        if p.kind in (p.POSITIONAL_ONLY, p.VAR_POSITIONAL):
            raise TypeError(f"refute: the bound takes {p}; constants go by name: def bound(*, beta, rho, steps, delta, lr)")
        if p.name not in CONSTANTS and p.default is p.empty:
            near = difflib.get_close_matches(p.name.lower(), CONSTANTS, n=1, cutoff=0.5)
            hint = f"{near[0]}?" if near else f"the known ones are {', '.join(CONSTANTS)}"
            raise TypeError(f"refute: the bound takes {p.name!r}, which is no known constant; {hint}")
    return tuple(name for name in names if name in CONSTANTS)


def _scheduled(bound: Callable[..., Any]) -> bool:
    parameter = inspect.signature(bound).parameters.get("rho")
    return parameter is not None and "RhoSchedule" in str(parameter.annotation)


def _ranges(given: Mapping[str, Any]) -> dict[str, tuple[float, float]]:
    """Each range as a pair (low, high) with 0 < low <= high."""
    ranges = dict(RANGES)
    for name, value in given.items():
        if name not in RANGES:
            raise TypeError(f"refute: unknown argument {name}=; the ranges are {', '.join(RANGES)}")
        if value is not None:
            ranges[name] = _pair(name, value)
    return ranges


def _pair(name: str, value: Any) -> tuple[float, float]:
    pair = tuple(value) if isinstance(value, tuple | list) else (value, value)
    if len(pair) != 2 or any(isinstance(v, bool) or not isinstance(v, Real) for v in pair):
        raise TypeError(f"refute: {name}={value!r} must be a number, or a pair (low, high)")
    low, high = float(pair[0]), float(pair[1])
    least = 1.0 if name in ("kappa", "steps") else 0.0
    if not (least <= low <= high < math.inf and low > 0):
        raise ValueError(f"refute: {name}={value!r} must be {'at least 1' if least else 'above 0'}, low <= high")
    if name == "steps" and (low != int(low) or high != int(high)):
        raise ValueError(f"refute: steps={value!r} must be whole numbers")
    return low, high


def _digest(function: Any) -> str:
    """A digest of the function's source, or of its code if it has no source, and of the values in its closure."""
    try:
        text = inspect.getsource(function)
    except (OSError, TypeError):
        text = repr(function)
    cells = [repr(cell.cell_contents) for cell in getattr(function, "__closure__", None) or ()]
    return hashlib.sha256("\n".join([text, *cells]).encode()).hexdigest()[:12]
