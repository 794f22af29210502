"""Functions of several variables, one per lane: squared distances to two cones in the plane, and diagonal quadratics."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sharpmin.core.extras import optional

from .conjecture import WITH_MU, Conjecture
from .genes import Constants, Reader
from .population import Functions

if TYPE_CHECKING:
    import numpy as np

    from .._problems.problem import Array
    from . import kernel
else:
    np = optional("numpy", extra="lab")
    kernel = optional("sharpmin.theory._refute.kernel", extra="lab")

CONES = 2
CONE_GENES = 4 * CONES + 3 + 2
DIM = 3
QUADRATIC_GENES = DIM + 1 + DIM

CODE = '''\
import numpy as np

mu, pull = {mu!r}, {pull!r}
cones = [  # weight, direction and half angle in radians, how far the apex lies behind 0
{rows}
]


def beyond(z, direction, half, depth):
    """z minus the nearest point of the cone."""
    axis, normal = np.array([np.cos(direction), np.sin(direction)]), np.array([-np.sin(direction), np.cos(direction)])
    z = z + depth * axis
    along, across = z @ axis, z @ normal
    side = 1.0 if across >= 0 else -1.0
    out = abs(across) * np.cos(half) - along * np.sin(half)
    if out <= 0 <= along:
        return 0.0 * z
    if along * np.cos(half) + abs(across) * np.sin(half) <= 0:
        return z
    return out * (side * np.cos(half) * normal - np.sin(half) * axis)


def value(z):
    return mu / 2 * (z @ z) + pull / 2 * sum(w * beyond(z, *cone) @ beyond(z, *cone) for w, *cone in cones)


def gradient(z):
    return mu * z + pull * sum(w * beyond(z, *cone) for w, *cone in cones)


f = theory.own(value=value, gradient=gradient, dim=2, beta={beta!r}, mu=mu, f_star=0.0, convex=True, name="cones")'''


@dataclass
class Cones(Functions):
    """f = (mu/2) ||z||^2 + (pull/2) sum_j w_j dist(z, K_j)^2, cones K_j that contain 0, sum w_j = 1: minimal at 0.

    dist^2/2 to a convex set is convex and 1-smooth, so f is mu-strongly convex and (mu + pull)-smooth. With one cone this is
    the wedge; with two its Hessian turns as z moves.
    """

    curvature: Array
    pull: Array
    cones: Array  # (lanes, cones, 4): weight, direction, half angle, depth

    def gradient(self, x: Array, sample: int | None = None) -> Array:
        """mu z + pull sum_j w_j (z - P_j z)."""
        total = self.curvature[:, None, None] * x
        for j in range(self.cones.shape[1]):
            weight = (self.pull * self.cones[:, j, 0])[:, None, None]
            total = total + weight * self._beyond(x, j)
        return total

    def gap(self, x: Array) -> Array:
        """f(x), since f* = 0."""
        total = self.curvature[:, None] * (x * x).sum(axis=-1) / 2
        for j in range(self.cones.shape[1]):
            total = total + (self.pull * self.cones[:, j, 0])[:, None] * (self._beyond(x, j) ** 2).sum(axis=-1) / 2
        return np.asarray(total)

    def _beyond(self, x: Array, j: int) -> Array:
        direction, half, depth = (self.cones[:, j, k, None] for k in (1, 2, 3))
        ca, sa, ch, sh = np.cos(direction), np.sin(direction), np.cos(half), np.sin(half)
        z1, z2 = x[..., 0] + depth * ca, x[..., 1] + depth * sa
        along, across = z1 * ca + z2 * sa, z2 * ca - z1 * sa
        far = np.abs(across)
        out = far * ch - along * sh
        u, v = -out * sh, np.copysign(out * ch, across)
        behind = along * ch + far * sh <= 0  # the apex is the nearest point
        inside = (out <= 0) & (along >= 0)
        moved = np.empty_like(x)
        moved[..., 0] = np.where(inside, 0.0, np.where(behind, z1, u * ca - v * sa))
        moved[..., 1] = np.where(inside, 0.0, np.where(behind, z2, u * sa + v * ca))
        return moved

    def rows(self) -> tuple[int, Array]:
        """mu, pull, and six numbers per cone."""
        weight, direction, half, depth = np.moveaxis(self.cones, 2, 0)
        cones = np.stack([weight, np.cos(direction), np.sin(direction), np.cos(half), np.sin(half), depth], axis=2)
        return kernel.CONES, np.column_stack([self.curvature, self.pull, cones.reshape(len(cones), -1)])

    def source(self, i: int) -> str:
        """Code that builds lane i."""
        rows = "\n".join(f"    {tuple(cone)!r}," for cone in self.cones[i].tolist() if cone[0] > 0)
        return CODE.format(mu=float(self.curvature[i]), pull=float(self.pull[i]), rows=rows, beta=float(self.beta[i]))


@dataclass
class Quadratics(Functions):
    """f = sum_i lam_i x_i^2 / 2."""

    curvatures: Array

    def gradient(self, x: Array, sample: int | None = None) -> Array:
        """The products lam_i x_i."""
        return np.asarray(self.curvatures[:, None] * x)

    def gap(self, x: Array) -> Array:
        """f(x), since f* = 0."""
        return np.asarray((self.curvatures[:, None] * x * x).sum(axis=-1) / 2)

    def rows(self) -> tuple[int, Array]:
        """The curvatures."""
        return kernel.QUADRATICS, self.curvatures

    def source(self, i: int) -> str:
        """Code that builds lane i."""
        return f'f = theory.problems()["quadratic"](curvatures={self.curvatures[i].tolist()})'


def decode_cones(conjecture: Conjecture, s: Constants, reader: Reader) -> tuple[Cones, Array]:
    """Cones, and starts of shape (lanes, 2), in size between 0.1 and 10 kappa times lr beta rho."""
    low = s.beta / s.kappa if _has_mu(conjecture) else 0.0 * s.beta
    unit = s.lr * s.beta * s.rho
    weight, n = reader.linear(-0.5, 1.0), len(s.beta)
    weight = np.maximum(weight, 0.0)  # a third has one cone
    rows = []
    for j in range(CONES):
        half = np.arctan(reader.log(0.1 / s.kappa, 100.0))
        half = np.where(reader.many(1)[:, 0] > 0.9, np.pi / 2, half)
        direction = reader.linear(-np.pi, np.pi) if j else 0.0 * reader.linear(0.0, 1.0)
        depth = np.where(reader.many(1)[:, 0] > 0.7, unit * s.kappa * 0.3, 0.0) if j else 0.0 * reader.linear(0.0, 1.0)
        rows.append(np.stack([weight if j else 1.0 - weight, direction, half, depth], axis=1))
    scale = unit * reader.log(0.1, 10.0 * s.kappa)
    ratio = reader.log(1e-3, 1.0)  # across the first cone, beside along it
    x0 = np.stack([scale * reader.signed() / 3, scale * ratio * reader.signed() / 3], axis=1)
    ones = np.ones((n, 1))
    f = Cones(
        s.beta, low, 0.0 * s.beta, s.beta, ones, np.zeros((n, 2)), 0.0 * s.beta, low, s.beta - low, np.stack(rows, axis=1)
    )
    return f, x0


def decode_quadratics(conjecture: Conjecture, s: Constants, reader: Reader) -> tuple[Quadratics, Array]:
    """Quadratics with curvatures in [mu, beta], one of them beta, and starts from lr beta rho / 10 to 10 rho."""
    low = s.beta / s.kappa if _has_mu(conjecture) else 1e-6 * s.beta
    u = reader.many(DIM)
    u[:, 0], n = 1.0, len(s.beta)
    lam = low[:, None] + (s.beta - low)[:, None] * np.where(u < 0.2, 0.0, (u - 0.2) / 0.8)
    x0 = reader.log(s.lr * s.beta * s.rho / 10, 10 * s.rho)[:, None] * reader.signed_many(DIM) / 3
    mu = low if _has_mu(conjecture) else 0.0 * low
    f = Quadratics(s.beta, mu, 0.0 * s.beta, s.beta, np.ones((n, 1)), np.zeros((n, DIM)), 0.0 * s.beta, lam)
    return f, x0


def _has_mu(conjecture: Conjecture) -> bool:
    return conjecture.setting in WITH_MU
