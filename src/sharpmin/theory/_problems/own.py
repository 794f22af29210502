"""A problem of your own, from NumPy functions, a torch loss, or piecewise linear derivatives, with the constants you claim."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, Any

from sharpmin.core.extras import optional
from sharpmin.core.rho import finite, real

from .._statements.assume import claimed_residual
from .hinge import Hinge, HingeProblem
from .problem import Problem
from .registry import usable

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from .problem import Array
else:
    np = optional("numpy", extra="lab")

Function = Callable[..., Any]
_TOGETHER = 64  # samples whose graphs autograd keeps at once


@dataclass(frozen=True, repr=False, eq=False)
class OwnProblem(Problem):
    """The problem that `own` builds from functions: f = (1/samples) sum_i l(.; i), evaluated point by point.

    Its constants are the caller's claims; `examine` tries to refute them.
    """

    name: str
    dim: int
    samples: int
    convex: bool
    value_of: Function  # (point, sample) -> float
    gradient_of: Function  # (point, samples) -> the sum of their gradients, shape (dim,)
    claims: dict[str, float]
    claimed_residual: tuple[float, float, float] | None = None

    @property
    def beta(self) -> float:
        """The smoothness of f that was claimed."""
        return self.claims["beta"]

    @property
    def mu(self) -> float:
        """The strong convexity of f that was claimed; 0 by default."""
        return self.claims["mu"]

    @property
    def pl(self) -> float:
        """The PL constant that was claimed, at least `mu`."""
        return max(self.claims["pl"], self.mu)

    @property
    def beta_component(self) -> float:
        """The smoothness of every sample that was claimed; `beta` by default."""
        return self.claims["beta_component"]

    @property
    def sigma(self) -> float:
        """The bound on the noise that was claimed; by default 0 for one sample, and inf if a residual is claimed instead."""
        return self.claims["sigma"]

    @property
    def residual(self) -> tuple[float, float, float] | None:
        """The expected residual (A, B, C) that was claimed; by default (0, 1, sigma^2)."""
        return self.claimed_residual or super().residual

    @property
    def f_star(self) -> float:
        """The infimum of f that was claimed."""
        return self.claims["f_star"]

    @property
    def resolution(self) -> float:
        """The rounding error of a difference of two values near f*."""
        return 1e-14 * max(1.0, abs(self.f_star))

    def value(self, x: Array) -> Array:
        """f, shape (lanes,)."""
        return np.array([_mean([self.value_of(point, i) for i in range(self.samples)]) for point in x])

    def gradient(self, x: Array) -> Array:
        """The mean over samples, the shape of x."""
        parts = [range(i, min(i + _TOGETHER, self.samples)) for i in range(0, self.samples, _TOGETHER)]
        return np.reshape([sum(self.gradient_of(point, part) for part in parts) / self.samples for point in x], x.shape)

    def sample_gradient(self, x: Array, draw: Any) -> Array:
        """The gradient of the drawn sample, the shape of x."""
        rows = [self.gradient_of(point, [int(i)]) for point, i in zip(x, draw[:, 0], strict=True)]
        return np.reshape(np.array(rows), x.shape)

    def draw(self, u: Array) -> NDArray[np.int64]:
        """A uniform sample index."""
        return (u * self.samples).astype(np.int64)


def _mean(values: list[float]) -> float:
    try:
        return math.fsum(values) / len(values)
    except (OverflowError, ValueError):  # fsum raises for overflow and inf - inf, which a diverging run gives
        return sum(values) / len(values)


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
    residual: tuple[float, float, float] | None = None,
    f_star: float | None = None,
    beta_component: float | None = None,
    convex: bool = False,
) -> Problem:
    """A problem for `simulate`, `plan` and `examine`, given in one of three ways.

    Args:
        value: a NumPy function l(x), or l(x, i) if there are several samples; x is a float if `dim` is 1, else an array (dim,).
        gradient: its gradient, with the same arguments.
        loss: a torch function in place of both: l(w) or l(w, i), a scalar float64 tensor; w is float64 of shape () or (dim,).
            Autograd gives the gradient.
        hinges: 1-D data: per sample a `Hinge`, or (a, b, [(t, c), ...]) for l'(x) = a + b x + sum c max(0, x - t). All
            constants are then computed, and none may be claimed.
        probabilities: of the samples in `hinges`; equal by default. Samples of `value` or `loss` have equal weight.
        dim: the dimension.
        samples: the number of samples; f is the mean of l over them.
        name: the problem's name in tables.
        beta: claimed smoothness of f.
        mu: claimed strong convexity.
        pl: claimed PL constant, ||grad f||^2 >= 2 pl (f - f*).
        sigma: claimed sup over x of (E ||grad l - grad f||^2)^(1/2); needed with several samples, unless
            `residual` is claimed; sigma is inf then.
        residual: claimed (A, B, C), with E ||grad l||^2 <= 2 A (f - f*) + B ||grad f||^2 + C everywhere: noise that may grow
            (Oikonomou & Loizou, ICLR 2025, arXiv:2503.02225). A variance of at most sigma^2 is (0, 1, sigma^2).
        f_star: the infimum of f.
        beta_component: claimed smoothness of every sample; default beta.
        convex: claims convexity; implied by mu > 0.

    Raises:
        TypeError: for arguments that exclude each other, or functions that return the wrong shape or dtype.
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
        claimed = [k for k, v in (claims | {"residual": residual}).items() if v not in (None, 0.0)] + ["convex"] * convex
        if claimed or any(given is not None for given in (value, gradient, loss)) or (dim, samples) != (1, 1):
            extra = f"; leave out {', '.join(claimed)}" if claimed else ""
            raise TypeError(f"own: hinges= is a whole 1-D problem and fixes its constants{extra}")
        return _hinge_problem(name, hinges, probabilities)
    if probabilities is not None:
        raise TypeError("own: probabilities= belongs to hinges=; functions have samples of equal weight")
    value_of, gradient_of = _functions(value, gradient, loss, dim, samples)
    grows = claimed_residual("own", residual, samples)
    checked = _claims(claims, noisy=samples > 1 and grows is None)
    if grows is not None and sigma is None:
        checked["sigma"] = math.inf
    return OwnProblem(name, dim, samples, convex or checked["mu"] > 0, value_of, gradient_of, checked, grows)


def _claims(claims: dict[str, Any], *, noisy: bool) -> dict[str, float]:
    needed = ["beta", "f_star"] + ["sigma"] * noisy
    missing = [k for k in needed if claims[k] is None]
    if missing:
        raise ValueError(f"own: the statements need {', '.join(f'{k}=' for k in missing)}; examine() tests what you claim")
    given = claims | {"sigma": 0.0 if claims["sigma"] is None else claims["sigma"]}
    given["beta_component"] = claims["beta"] if claims["beta_component"] is None else claims["beta_component"]
    checked = {}
    for name, value in given.items():
        positive = name in ("beta", "beta_component")
        checked[name] = finite(value, name, "own", low=-math.inf if name == "f_star" else 0.0, strict=positive)
    for name in ("mu", "pl"):
        if checked[name] > checked["beta"]:
            beta = checked["beta"]
            raise ValueError(f"own: {name}={checked[name]:g} exceeds beta={beta:g}; a beta-smooth function has {name} <= beta")
    return checked


def _hinge_problem(name: str, hinges: Sequence[Any], probabilities: Sequence[float] | None) -> Problem:
    try:
        rows = [(h.a, h.b, h.hinges) if isinstance(h, Hinge) else (real(h[0]), real(h[1]), _knots(h[2])) for h in hinges]
    except (TypeError, IndexError, KeyError, ValueError):
        raise TypeError(f"own: hinges={hinges!r} must hold a Hinge or (a, b, [(t, c), ...]) per sample") from None
    for i, (a, b, knots) in enumerate(rows):
        if not all(map(math.isfinite, (a, b, *chain.from_iterable(knots)))):
            raise ValueError(f"own: hinges[{i}]={(a, b, list(knots))}; every a, b, t and c must be a finite number")
    if probabilities is not None and (isinstance(probabilities, str) or not hasattr(probabilities, "__len__")):
        raise TypeError(f"own: probabilities={probabilities!r} must be a list of numbers, one per sample")
    given = [1 / len(rows) for _ in rows] if probabilities is None else probabilities
    weights = tuple(finite(p, f"probabilities[{i}]", "own", low=0, strict=True) for i, p in enumerate(given))
    return usable("own", {}, lambda: HingeProblem(name, tuple(Hinge(*row) for row in rows), weights))


def _knots(pairs: Any) -> tuple[tuple[float, float], ...]:
    return tuple(sorted((real(t), real(c)) for t, c in pairs))


def _functions(value: Any, gradient: Any, loss: Any, dim: int, samples: int) -> tuple[Function, Function]:
    """(point, sample) -> float, and (point, samples) -> the sum of their gradients, from what was given."""
    _check_functions(value, gradient, loss, dim, samples)

    def call(function: Function, point: Any, i: int) -> Any:
        return function(point, i) if samples > 1 else function(point)

    return _of_numpy(value, gradient, dim, call) if loss is None else _of_torch(loss, call)


def _check_functions(value: Any, gradient: Any, loss: Any, dim: int, samples: int) -> None:
    for label, count in (("dim", dim), ("samples", samples)):
        if isinstance(count, bool) or not isinstance(count, int) or count < 1:
            raise TypeError(f"own: {label}={count!r} must be an integer >= 1")
    by_hand = value is not None or gradient is not None
    if by_hand == (loss is not None) or (by_hand and (value is None or gradient is None)):
        raise TypeError("own: give value= and gradient= (NumPy), or loss= (torch), or hinges=")


def _of_numpy(
    value: Function, gradient: Function, dim: int, call: Callable[[Function, Any, int], Any]
) -> tuple[Function, Function]:
    def value_of(point: Any, i: int) -> float:
        try:
            out = _double(call(value, point, i), "value")
        except OverflowError:  # as of math.exp: a run that diverges
            return math.nan
        if out.size != 1:
            raise TypeError(f"own: value returned shape {out.shape}; it must return one number per point")
        return float(out.reshape(()))

    def one(point: Any, i: int) -> Any:
        try:
            out = _double(call(gradient, point, i), "gradient")
        except OverflowError:
            return np.full(dim, math.nan)
        if out.size != dim or out.ndim > 1:
            raise TypeError(f"own: gradient returned shape {out.shape}; it must return shape ({dim},), that of a point")
        return out.reshape(dim)

    return value_of, lambda point, samples: sum((one(point, i) for i in samples), np.zeros(dim))


def _double(out: Any, what: str) -> Any:
    """The value that a NumPy function returned, as float64; raises if it was computed in lower precision."""
    array = np.asarray(out)
    if array.dtype.kind not in "iuf" or (array.dtype.kind == "f" and array.dtype.itemsize < 8):
        raise TypeError(f"own: {what} returned {array.dtype}; it must return float64: keep x and your data float64, "
                        "such as data.astype(float)")  # fmt: skip
    return array.astype(np.float64)


def _of_torch(loss: Function, call: Callable[[Function, Any, int], Any]) -> tuple[Function, Function]:
    import torch  # noqa: PLC0415  # only loss= needs torch

    def run(point: Any, samples: Sequence[int], *, grad: bool) -> tuple[Any, list[Any]]:
        w = torch.tensor(np.asarray(point), dtype=torch.float64, requires_grad=grad)
        with torch.set_grad_enabled(grad):
            outs = [call(loss, w, i) for i in samples]
        for out in outs:
            if not isinstance(out, torch.Tensor) or out.numel() != 1:
                what = getattr(out, "shape", type(out).__name__)
                raise TypeError(f"own: loss returned {what}; it must return a scalar tensor")
            if out.dtype != torch.float64:
                raise TypeError(f"own: loss returned {out.dtype}; it must return torch.float64, as w is: make your data and "
                                "modules float64 with .double()")  # fmt: skip
        return w, outs

    def value_of(point: Any, i: int) -> float:
        return float(run(point, [i], grad=False)[1][0])

    def gradient_of(point: Any, samples: Sequence[int]) -> Any:
        w, outs = run(point, samples, grad=True)
        outs = [out for out in outs if out.requires_grad]
        (slope,) = torch.autograd.grad(outs, w, allow_unused=True) if outs else (None,)
        return np.zeros(w.numel()) if slope is None else slope.numpy().reshape(-1)

    return value_of, gradient_of
