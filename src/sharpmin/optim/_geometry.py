"""The norm in which the ball of radius rho is round.

A geometry answers `argmax {<a, v> : ||v|| <= 1}`. Once a step and group, `at(weights, vectors, context)` returns a
`Metric`, whose `measure()` returns a sum that is additive over any split of the tensors, so groups, devices and shards reduce
it once; `dual_norm` turns the total into `||a||_*`; `steepest(total)` gives the `v` with `||v|| = 1` and `<a, v> = ||a||_*`;
`norm(weights, moves)` is `||e||` of the realized move.

| geometry | ||v|| | ||a||_* | v |
|---|---|---|---|
| `L2()` | sqrt(sum v_i^2) | sqrt(sum a_i^2) | a / norm |
| `LInf()` | max abs(v_i) | sum abs(a_i) | sign(a) |
| `Elementwise(eta)` | L2 of v_i / T_i, T_i = abs(w_i) + eta | L2 of T_i a_i | T^2 a / norm |
| `Layerwise(eta)` | the same, T = L2 norm of the tensor + eta | | |

`Masked(mask, inner)`, in `_masked.py`, is any of them on some of the weights alone.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import compress
from operator import not_
from typing import ClassVar

import torch
from torch import Tensor

from sharpmin.core.rho import Scalar, finite

from ._numeric.dispatch import Lists, parts
from ._numeric.kinds import all_tensors, at_least_float32, dense
from ._numeric.loops import HUGE, TINY, Factor, divide, times
from ._numeric.shards import any_sharded, locals_of, over_shards
from ._numeric.sums import add, largest, largest_entry, norms, present, sum_of_magnitudes, sum_of_squares
from ._numeric.tensors import magnitudes, multiply, signs
from ._protocols import Context, Geometry, Metric, Part


class _Scaled(Geometry):
    """The Euclidean norm in stretched coordinates: ||v|| = ||v / T||_2, so v = T^2 a / ||T a||_2 for T from the weights."""

    whole: ClassVar[bool] = False

    @property
    @abstractmethod
    def adapt(self) -> Callable[[Tensor], bool] | None:
        """A function of a parameter: False gives it T = 1; None stretches all."""

    @abstractmethod
    def stretch(self, weights: Sequence[Tensor]) -> list[Factor]:
        """T for each tensor: an entry for each weight, or one for all."""

    def scale(self, weight: Tensor) -> Factor:
        """T for one tensor, 1 where `adapt` says so."""
        return self.stretch([weight])[0] if self.adapt is None or self.adapt(weight) else 1.0

    def at(self, weights: Sequence[Tensor], vectors: Sequence[Tensor], context: Context) -> Metric:
        """Stretched by T."""
        return _ScaledMetric(weights, vectors, self)

    def dual_norm(self, total: Scalar) -> Scalar:
        """sqrt(total)."""
        return total**0.5


@dataclass
class _ScaledMetric(Metric):
    geometry: _Scaled

    def measure(self) -> Scalar:
        """sum (T_i a_i)^2."""
        weights, vectors, chosen = self.weights, self.vectors, self._chosen()
        if any_sharded(weights):
            return over_shards(self._measure, [weights, vectors, chosen])
        return self._measure(weights, vectors, chosen)

    def _chosen(self) -> list[bool]:
        """For each weight, whether it is stretched."""
        adapt = self.geometry.adapt
        return [adapt is None or adapt(w) for w in self.weights]

    def _measure(self, weights: Sequence[Tensor], vectors: Sequence[Tensor], chosen: Sequence[bool]) -> Scalar:
        sums = [sum_of_squares(list(compress(vectors, map(not_, chosen))))]
        for ws, vs in self._stretched(weights, vectors, chosen):
            sums.append(sum_of_squares(multiply(vs, self.geometry.stretch(ws))))
        return add(sums)

    def _stretched(self, weights: Sequence[Tensor], vectors: Sequence[Tensor], chosen: Sequence[bool]) -> Iterator[Lists]:
        own = [list(compress(tensors, chosen)) for tensors in (weights, vectors)]
        return parts(*own, whole=self.geometry.whole)

    def steepest(self, total: Scalar) -> Iterator[Tensor]:
        """T^2 a / sqrt(total)."""
        norm = total**0.5
        for w, a in zip(self.weights, self.vectors, strict=True):
            t = self.geometry.scale(w)
            yield times(divide(times(a, t), norm), t)

    def parts(self, total: Scalar) -> Iterator[Part]:
        """u = T^2 a and c = 1 / sqrt(total) if float32 can hold them; else one tensor at a time."""
        norm = total**0.5
        if not isinstance(norm, Tensor) and not TINY < norm < HUGE:
            yield from super().parts(total)
            return
        weights, vectors, chosen = locals_of(self.weights), locals_of(self.vectors), self._chosen()
        if not any(chosen):
            yield weights, vectors, 1 / norm
            return
        others = list(map(not_, chosen))
        yield list(compress(weights, others)), list(compress(vectors, others)), 1 / norm
        for ws, vs in self._stretched(weights, vectors, chosen):
            t = self.geometry.stretch(ws)
            yield ws, multiply(vs, _squared(t)), 1 / norm

    def norm(self, weights: Sequence[Tensor], moves: Sequence[Tensor]) -> Scalar:
        """sqrt(sum (v_i / T_i)^2), with 0 / 0 = 0."""
        scaled = []
        for w, v in zip(weights, moves, strict=True):
            t = self.geometry.scale(w)
            own = dense(v)
            scaled.append(own if isinstance(t, float) and t == 1.0 else torch.where(own == 0, 0.0, at_least_float32(own) / t))
        return sum_of_squares(scaled) ** 0.5


def _squared(factors: list[Factor]) -> list[Factor]:
    return list(multiply(factors, factors)) if all_tensors(factors) else [factor * factor for factor in factors]


@dataclass(frozen=True)
class L2(_Scaled):
    """The Euclidean ball: v = a / ||a||_2 (Foret, Kleiner, Mobahi & Neyshabur, ICLR 2021, arXiv:2010.01412, eq. 2).

    Half-precision gradients give float32 directions. On an accelerator a zero or non-finite norm gives v = 0.

    >>> geometry, g = L2(), [torch.tensor([3.0]), torch.tensor([4.0])]
    >>> metric = geometry.at(g, g, Context())
    >>> geometry.dual_norm(metric.measure()), torch.cat(list(metric.steepest(metric.measure())))
    (5.0, tensor([0.6000, 0.8000]))
    """

    @property
    def adapt(self) -> None:
        """None: T = 1 for all."""

    def stretch(self, weights: Sequence[Tensor]) -> list[Factor]:
        """1."""
        return [1.0] * len(weights)

    def at(self, weights: Sequence[Tensor], vectors: Sequence[Tensor], context: Context) -> Metric:
        """The same at all weights."""
        return _Euclidean(weights, vectors, self)


class _Euclidean(_ScaledMetric):
    def measure(self) -> Scalar:
        """sum a_i^2."""
        return sum_of_squares(self.vectors)

    def _chosen(self) -> list[bool]:
        """None."""
        return [False] * len(self.weights)


@dataclass(frozen=True)
class Elementwise(_Scaled):
    """ASAM: T_i = |w_i| + eta, so that rescaling the weights of a layer does not change how sharp it looks.

    Kwon, Kim, Park & Choi, ASAM: Adaptive Sharpness-Aware Minimization for Scale-Invariant Learning of Deep Neural
    Networks, ICML 2021, arXiv:2102.11600, eq. 9.

    Args:
        eta: keeps weights of 0 movable.
        adapt: called with each tensor of weights; False means T = 1 there. `matrices` leaves biases and norms out.

    >>> w, g = [torch.tensor([3.0, 1.0])], [torch.tensor([3.0, 4.0])]
    >>> geometry = Elementwise(eta=0.0)
    >>> metric = geometry.at(w, g, Context())
    >>> next(metric.steepest(metric.measure()))
    tensor([2.7414, 0.4061])
    """

    eta: float = 0.01
    adapt: Callable[[Tensor], bool] | None = None

    def __post_init__(self) -> None:
        finite(self.eta, "eta", "Elementwise", low=0)

    def stretch(self, weights: Sequence[Tensor]) -> list[Factor]:
        """|w| + eta, in float32 at least."""
        return list(magnitudes(weights, self.eta))


@dataclass(frozen=True)
class Layerwise(_Scaled):
    """One T for each tensor: T = ||w_l||_2 + eta, so every layer moves in proportion to its size.

    Mueller, Vlaar, Rolnick & Hein, Normalization Layers Are All That Sharpness-Aware Minimization Needs, NeurIPS 2023,
    arXiv:2306.04226, section 2. T needs whole tensors: measures of two shards of one tensor do not add up.

    Args:
        eta: keeps tensors of zeros movable.
        adapt: as in `Elementwise`.

    >>> w, g = [torch.tensor([2.0]), torch.tensor([1.0])], [torch.tensor([3.0]), torch.tensor([8.0])]
    >>> geometry = Layerwise()
    >>> metric = geometry.at(w, g, Context())
    >>> geometry.dual_norm(metric.measure()), torch.cat(list(metric.steepest(metric.measure())))
    (10.0, tensor([1.2000, 0.8000]))
    """

    shards: ClassVar[bool] = False
    whole: ClassVar[bool] = True
    eta: float = 0.0
    adapt: Callable[[Tensor], bool] | None = None

    def __post_init__(self) -> None:
        finite(self.eta, "eta", "Layerwise", low=0)

    def stretch(self, weights: Sequence[Tensor]) -> list[Factor]:
        """||w||_2 + eta: a float on a CPU, else a tensor of shape ()."""
        sizes = norms(weights)
        return list(magnitudes(sizes, self.eta)) if all_tensors(sizes) else [size + self.eta for size in sizes]


@dataclass(frozen=True)
class LInf(Geometry):
    """The maximum-norm ball: v = sign(a), every weight moves by rho (Foret et al., ICLR 2021, eq. 2 with p = infinity).

    >>> geometry, g = LInf(), [torch.tensor([3.0, 0.0]), torch.tensor([-4.0])]
    >>> metric = geometry.at(g, g, Context())
    >>> geometry.dual_norm(metric.measure()), torch.cat(list(metric.steepest(metric.measure())))
    (7.0, tensor([ 1.,  0., -1.]))
    """

    def at(self, weights: Sequence[Tensor], vectors: Sequence[Tensor], context: Context) -> Metric:
        """The same at all weights."""
        return _Box(weights, vectors)

    def dual_norm(self, total: Scalar) -> Scalar:
        """total."""
        return total

    def joint(self, norms: Sequence[Scalar]) -> Scalar:
        """The largest."""
        return largest(norms)

    def share(self, measure: Scalar, total: Scalar) -> Scalar:
        """1, or 0 for a group whose gradients are zero."""
        return present(measure)


@dataclass
class _Box(Metric):
    def measure(self) -> Scalar:
        """sum |a_i|."""
        return sum_of_magnitudes(self.vectors)

    def steepest(self, total: Scalar) -> Iterator[Tensor]:
        """sign(a); for complex numbers a / |a|."""
        for a in self.vectors:
            v = at_least_float32(a.coalesce() if a.is_sparse else a)
            if isinstance(total, Tensor):
                ok = torch.isfinite(total).to(v.device)
                yield torch.where(ok, torch.sgn(dense(v)), 0.0)
            else:
                yield torch.sgn(v)

    def parts(self, total: Scalar) -> Iterator[Part]:
        """u = sign(a) and c = 1; on an accelerator c = 0 if the total is not finite."""
        for ws, vs in parts(locals_of(self.weights), locals_of(self.vectors)):
            yield ws, signs(vs), torch.isfinite(total).to(total.dtype) if isinstance(total, Tensor) else 1.0

    def norm(self, weights: Sequence[Tensor], moves: Sequence[Tensor]) -> Scalar:
        """max |v_i|."""
        return largest_entry(moves)


def matrices(weight: Tensor) -> bool:
    """Whether `weight` has two dimensions or more: the filter that leaves biases and norms out.

    >>> [matrices(p) for p in torch.nn.Linear(2, 3).parameters()]
    [True, False]
    """
    return weight.dim() >= 2
