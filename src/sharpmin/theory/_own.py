"""A problem of your own, from NumPy functions, a torch loss, or piecewise linear derivatives, with the constants you claim."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from sharpmin.core.extras import optional

from ._assume import numbers
from ._hinge import Hinge, HingeProblem
from ._problem import Problem

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from ._problem import Array
else:
    np = optional("numpy", extra="lab")

Function = Callable[..., Any]


@dataclass(frozen=True, repr=False, eq=False)
class OwnProblem(Problem):
    """What `own` makes of functions: f = (1/samples) sum_i l(.; i), evaluated point by point, with claimed constants.

    The constants are claims; `examine` tries to refute them.
    """

    name: str
    dim: int
    samples: int
    convex: bool
    value_of: Function  # (point, sample) -> float
    gradient_of: Function  # (point, sample) -> array of shape (dim,)
    claims: dict[str, float]

    @property
    def beta(self) -> float:
        """As claimed."""
        return self.claims["beta"]

    @property
    def mu(self) -> float:
        """As claimed; 0 if not."""
        return self.claims["mu"]

    @property
    def pl(self) -> float:
        """As claimed; at least `mu`."""
        return max(self.claims["pl"], self.mu)

    @property
    def beta_component(self) -> float:
        """As claimed; `beta` if not."""
        return self.claims["beta_component"]

    @property
    def sigma(self) -> float:
        """As claimed; 0 for one sample."""
        return self.claims["sigma"]

    @property
    def f_star(self) -> float:
        """As claimed."""
        return self.claims["f_star"]

    @property
    def resolution(self) -> float:
        """Of a difference of two values near f*."""
        return 1e-14 * max(1.0, abs(self.f_star))

    def value(self, x: Array) -> Array:
        """f, shape (lanes,)."""
        return np.array([math.fsum(self.value_of(point, i) for i in range(self.samples)) / self.samples for point in x])

    def gradient(self, x: Array) -> Array:
        """The mean over samples, the shape of x."""
        rows = [sum((self.gradient_of(point, i) for i in range(self.samples)), np.zeros(self.dim)) for point in x]
        return np.reshape(np.array(rows) / self.samples, x.shape)

    def sample_gradient(self, x: Array, draw: Any) -> Array:
        """The gradient of the drawn sample, the shape of x."""
        rows = [self.gradient_of(point, int(i)) for point, i in zip(x, draw[:, 0], strict=True)]
        return np.reshape(np.array(rows), x.shape)

    def draw(self, u: Array) -> NDArray[np.int64]:
        """A uniform sample index."""
        return (u * self.samples).astype(np.int64)


def own(
    *,
    value: Function | None = None,
    gradient: Function | None = None,
    loss: Function | None = None,
    hinges: Sequence[Any] | None = None,
    probabilities: Sequence[float] | None = None,
    dim: int = 1,
    samples: int = 1,
    name: str = "own",
    beta: float | None = None,
    mu: float = 0.0,
    pl: float = 0.0,
    sigma: float | None = None,
    f_star: float | None = None,
    beta_component: float | None = None,
    convex: bool = False,
) -> Problem:
    """A problem for `simulate`, `plan` and `examine`, given in one of three ways.

    Args:
        value: NumPy: l(x), or l(x, i) if there are several samples; x is a float if `dim` is 1, else an array (dim,).
        gradient: NumPy: its gradient, called likewise.
        loss: torch, in place of both: l(w) or l(w, i) as a scalar tensor, w float64 of shape () or (dim,); autograd does the
            rest.
        hinges: 1-D data: per sample a `Hinge`, or (a, b, [(t, c), ...]) for l'(x) = a + b x + sum c max(0, x - t). All
            constants are then computed, and none may be claimed.
        probabilities: of the hinges; equal by default. Functions have equal samples.
        dim: the dimension.
        samples: how many samples l has; f is their mean.
        name: how tables call it.
        beta: claimed smoothness of f.
        mu: claimed strong convexity.
        pl: claimed PL constant, ||grad f||^2 >= 2 pl (f - f*).
        sigma: claimed sup over x of (E ||grad l - grad f||^2)^(1/2); needed with several samples.
        f_star: the infimum of f.
        beta_component: claimed smoothness of every sample; default beta.
        convex: claims convexity; implied by mu > 0.

    Raises:
        TypeError: for arguments that do not go together, or functions of the wrong shape.
        ValueError: for a missing or impossible constant.

    >>> f = own(value=lambda x: 2 * x * x, gradient=lambda x: 4 * x, beta=4.0, mu=4.0, f_star=0.0)
    >>> float(f.gap(np.array([3.0]))[0]), f.gradient(np.array([3.0]))
    (18.0, array([12.]))
    >>> g = own(loss=lambda w: (w**2).sum(), dim=3, beta=2.0, mu=2.0, f_star=0.0)
    >>> g.gradient(np.array([[1.0, 2.0, 3.0]]))
    array([[2., 4., 6.]])
    >>> own(hinges=[(1.0, 1.0, []), (-1.0, 1.0, [])]).sigma
    1.0
    """
    claims = {"beta": beta, "mu": mu, "pl": pl, "sigma": sigma, "f_star": f_star, "beta_component": beta_component}
    if hinges is not None:
        claimed = [k for k, v in claims.items() if v not in (None, 0.0)] + ["convex"] * convex
        if claimed or any(given is not None for given in (value, gradient, loss)) or (dim, samples) != (1, 1):
            extra = f"; leave out {', '.join(claimed)}" if claimed else ""
            raise TypeError(f"own: hinges= is a whole 1-D problem and fixes its constants{extra}")
        return _hinge_problem(name, hinges, probabilities)
    if probabilities is not None:
        raise TypeError("own: probabilities= belongs to hinges=; functions have samples of equal weight")
    value_of, gradient_of = _functions(value, gradient, loss, dim, samples)
    return OwnProblem(name, dim, samples, convex or mu > 0, value_of, gradient_of, _claims(claims, samples))


def _claims(claims: dict[str, Any], samples: int) -> dict[str, float]:
    needed = ["beta", "f_star"] + ["sigma"] * (samples > 1)
    missing = [k for k in needed if claims[k] is None]
    if missing:
        raise ValueError(f"own: the statements need {', '.join(f'{k}=' for k in missing)}; examine() tests what you claim")
    if not isinstance(claims["f_star"], (int, float)) or not math.isfinite(claims["f_star"]):
        raise ValueError(f"own: f_star={claims['f_star']!r} must be a finite number")
    claims["sigma"] = claims["sigma"] or 0.0
    claims["beta_component"] = claims["beta"] if claims["beta_component"] is None else claims["beta_component"]
    positive = {k: v for k, v in claims.items() if k not in ("f_star", "pl") and not (k == "mu" and v == 0)}
    numbers("own", positive)
    if claims["pl"] != 0:
        numbers("own", {"beta": claims["beta"], "mu": claims["pl"]})  # the same domain, the same relation to beta
    return {k: float(v) for k, v in claims.items()}


def _hinge_problem(name: str, hinges: Sequence[Any], probabilities: Sequence[float] | None) -> HingeProblem:
    try:
        parts = [
            h if isinstance(h, Hinge) else Hinge(float(h[0]), float(h[1]), tuple(sorted(map(_knot, h[2])))) for h in hinges
        ]
    except (TypeError, IndexError, ValueError):
        raise TypeError(f"own: hinges={hinges!r} must hold a Hinge or (a, b, [(t, c), ...]) per sample") from None
    equal = [1 / len(parts)] * len(parts) if parts else []
    return HingeProblem(name, tuple(parts), tuple(float(p) for p in (equal if probabilities is None else probabilities)))


def _knot(pair: Any) -> tuple[float, float]:
    t, c = pair
    return float(t), float(c)


def _functions(value: Any, gradient: Any, loss: Any, dim: int, samples: int) -> tuple[Function, Function]:
    """(point, sample) -> float, and (point, sample) -> (dim,), from what was given."""
    for label, count in (("dim", dim), ("samples", samples)):
        if isinstance(count, bool) or not isinstance(count, int) or count < 1:
            raise TypeError(f"own: {label}={count!r} must be an integer >= 1")
    by_hand = value is not None or gradient is not None
    if by_hand == (loss is not None) or (by_hand and (value is None or gradient is None)):
        raise TypeError("own: give value= and gradient= (NumPy), or loss= (torch), or hinges=")

    def call(function: Function, point: Any, i: int) -> Any:
        return function(point, i) if samples > 1 else function(point)

    if loss is not None:
        return _of_torch(loss, call)

    def value_of(point: Any, i: int) -> float:
        out = np.asarray(call(value, point, i), dtype=np.float64)
        if out.size != 1:
            raise TypeError(f"own: value returned shape {out.shape}; it must return one number per point")
        return float(out.reshape(()))

    def gradient_of(point: Any, i: int) -> Any:
        out = np.asarray(call(gradient, point, i), dtype=np.float64)
        if out.size != dim or out.ndim > 1:
            raise TypeError(f"own: gradient returned shape {out.shape}; it must return shape ({dim},), that of a point")
        return out.reshape(dim)

    return value_of, gradient_of


def _of_torch(loss: Function, call: Callable[[Function, Any, int], Any]) -> tuple[Function, Function]:
    def run(point: Any, i: int, *, grad: bool) -> tuple[Any, Any]:
        w = torch.tensor(np.asarray(point), dtype=torch.float64, requires_grad=grad)
        with torch.set_grad_enabled(grad):
            out = call(loss, w, i)
        if not isinstance(out, torch.Tensor) or out.numel() != 1:
            raise TypeError(f"own: loss returned {getattr(out, 'shape', type(out).__name__)}; it must return a scalar tensor")
        return w, out.reshape(())

    def value_of(point: Any, i: int) -> float:
        return float(run(point, i, grad=False)[1])

    def gradient_of(point: Any, i: int) -> Any:
        w, out = run(point, i, grad=True)
        if not out.requires_grad:
            return np.zeros(w.numel())
        (slope,) = torch.autograd.grad(out, w)
        return slope.numpy().reshape(-1)

    return value_of, gradient_of
