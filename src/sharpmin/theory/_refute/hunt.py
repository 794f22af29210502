"""One island, an independent part of an attack: a family of functions evolved against the bound, or the shipped instances."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sharpmin._version import __version__
from sharpmin.core.extras import optional
from sharpmin.core.jsonable import jsonable
from sharpmin.runs import Row

from .._simulation.oracle import Oracle
from . import hinges, planar
from .conjecture import Conjecture
from .evolve import maximize
from .genes import COMMON, Constants, Reader, constants_of, radii_of, settings, step_sizes
from .instance import Found, confirm, deterministic
from .limits import claimed_mu, limits_of
from .population import Runs, measure
from .shipped import attack as attack_shipped

if TYPE_CHECKING:
    import numpy as np

    from .._problems.problem import Array
else:
    np = optional("numpy", extra="lab")

FAMILIES = ("shipped", "hinges", "paths", "cones", "quadratics")
"""The instances of the laboratory; piecewise linear derivatives; the same with two samples, all paths enumerated; pulls towards
two cones in the plane; diagonal quadratics in three dimensions."""

GENES = {
    "hinges": hinges.GENES, "paths": hinges.GENES + hinges.NOISE_GENES, "cones": planar.CONE_GENES,
    "quadratics": planar.QUADRATIC_GENES,
}  # fmt: skip

LONGEST = {"hinges": 64, "cones": 64, "quadratics": 64}
"""The largest T of evolved runs, for speed."""

PATHS = {Oracle.M_SAM: 6, Oracle.N_SAM: 3}
"""The largest T where paths are enumerated: with two samples there are then at most 64 paths."""


@dataclass(frozen=True)
class Island:
    """A part of an attack that can be computed on its own.

    Attributes:
        conjecture: the claim that is attacked.
        family: one of `FAMILIES`.
        seed: the seed of all random choices.
        evaluations: the budget; the last generation may exceed it.
    """

    conjecture: Conjecture
    family: str
    seed: int
    evaluations: int

    @property
    def id(self) -> dict[str, Any]:
        """Everything that determines the result, as JSON values."""
        own = {"family": self.family, "seed": self.seed, "evaluations": self.evaluations}
        return self.conjecture.fingerprint() | own | {"sharpmin": __version__, "numpy": np.__version__}


def run(island: Island) -> Row:
    """The worst run that the island found, confirmed through the public interface, as JSON values."""
    conjecture = island.conjecture
    if island.family == "shipped":
        found, evaluations = attack_shipped(conjecture)
    else:
        rng = np.random.default_rng([island.seed, FAMILIES.index(island.family)])
        genes = COMMON + GENES[island.family]
        best, _, evaluations = maximize(lambda table: fitness(conjecture, island.family, table), genes, island.evaluations, rng)
        found = _confirmed(conjecture, island.family, best)
    return {"id": island.id, "evaluations": evaluations, "found": None if found is None else record(found)}


def probe(conjecture: Conjecture) -> None:
    """Call the bound once, in the middle of the ranges, so that its errors reach the caller unchanged."""
    s = settings(conjecture, Reader(np.full((1, COMMON), 0.5)))
    beta, mu = float(s.beta[0]), float(s.beta[0] / s.kappa[0])
    numbers = {"beta": beta, "mu": mu, "delta": 1.0, "distance": 1.0, "sigma": 0.5, "beta_component": beta}
    told = constants_of(conjecture, s, 0, numbers)
    step_sizes(conjecture, told)
    conjecture.limit(told)


def record(found: Found) -> dict[str, Any]:
    """A `Found` as JSON values."""
    constants = {name: v if isinstance(v, int | float | str) else repr(v) for name, v in found.constants.items()}
    whole: dict[str, Any] = jsonable({**vars(found), "constants": constants})
    return whole


def recalled(row: Mapping[str, Any]) -> Found | None:
    """The `Found` that `record` wrote."""
    return None if row["found"] is None else Found(**row["found"])


def decode(conjecture: Conjecture, family: str, genes: Array) -> tuple[Constants, Any, Array]:
    """Settings, functions and starts from a table of genes."""
    reader = Reader(genes)
    if family == "paths":
        s = settings(conjecture, reader, PATHS[conjecture.oracle])
        f, x0 = hinges.decode(conjecture, s, reader, noisy=True)
        if conjecture.oracle is Oracle.M_SAM and "beta_component" not in conjecture.takes:
            factor = np.maximum(1.0, f.steepest / s.beta)  # then beta bounds the samples, too
            s.beta, s.lr, s.c = s.beta * factor, s.lr / factor, s.c / factor
            f.beta = s.beta
        return s, f, x0
    s = settings(conjecture, reader, LONGEST[family])
    if family == "hinges":
        return s, *hinges.decode(conjecture, s, reader, noisy=False)
    return s, *(planar.decode_cones if family == "cones" else planar.decode_quadratics)(conjecture, s, reader)


def fitness(conjecture: Conjecture, family: str, genes: Array) -> Array:
    """Measured over bound, for each row of genes; -inf where the bound does not apply."""
    s, f, x0 = decode(conjecture, family, genes)
    order = np.argsort(-s.steps, kind="stable")
    s, f, x0 = s.take(order), f.take(order), x0[order]
    limits, lr = limits_of(conjecture, s, f, x0)
    speaks = np.isfinite(limits)
    out = np.full(len(limits), -np.inf)
    if speaks.any():
        s, f, x0, lr = s.take(speaks), f.take(speaks), x0[speaks], lr[:, speaks]
        clip = s.clip if conjecture.radius == "clipped" else None
        runs = Runs(method_on(conjecture, family), lr, *radii_of(conjecture, s, lr), clip, s.steps, x0)
        values = measure(f, runs, conjecture.quantity)
        surely = values - (f.resolution if "gap" in conjecture.quantity else 0.0)
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            out[speaks] = np.where(np.isfinite(surely), surely / limits[speaks], -np.inf)
    back = np.empty_like(out)
    back[order] = out
    return back


def method_on(conjecture: Conjecture, family: str) -> str:
    """The method for a family: deterministic on functions with one sample."""
    return conjecture.method if family == "paths" else deterministic(conjecture.method)


def _confirmed(conjecture: Conjecture, family: str, genes: Array) -> Found | None:
    s, f, x0 = decode(conjecture, family, genes[None])
    beta = float(f.beta[0])
    claims = {"beta": beta, "mu": claimed_mu(conjecture, beta, float(f.mu[0]))}
    return confirm(conjecture, family, f.source(0), claims, s, 0, x0[0].tolist(), method_on(conjecture, family))
