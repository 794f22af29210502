"""The norm in which the ball of radius rho is round.

A geometry answers `argmax {<a, v> : ||v|| <= 1}` in pure functions on lists of tensors. `measure` returns a sum that is
additive over any split of the lists, so groups, devices and shards reduce it once; `dual_norm` turns the total into
`||a||_*`; `steepest` gives the `v` with `||v|| = 1` and `<a, v> = ||a||_*`; `norm` is `||v||` itself.

| geometry | ||v|| | ||a||_* | v |
|---|---|---|---|
| `L2()` | sqrt(sum v_i^2) | sqrt(sum a_i^2) | a / norm |
| `LInf()` | max abs(v_i) | sum abs(a_i) | sign(a) |
| `Elementwise(eta)` | L2 of v_i / T_i, T_i = abs(w_i) + eta | L2 of T_i a_i | T^2 a / norm |
| `Layerwise(eta)` | the same, T = L2 norm of the tensor + eta | | |
| `Masked(mask, inner)` | inner, where the mask lets weights move | inner of the masked a | 0 elsewhere |
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from sharpmin.core.rho import Scalar, finite

from ._numeric.tensors import dense, divide, largest_entry, sum_of_magnitudes, sum_of_squares, times, wide


class Geometry(ABC):
    """What `SAM` asks of a norm; weights and vectors come in the same order.

    Attributes:
        shards: whether the shards of one tensor may be measured apart, as FSDP2 needs it.
    """

    shards: ClassVar[bool] = True

    @abstractmethod
    def measure(self, weights: Sequence[Tensor], vectors: Sequence[Tensor]) -> Scalar:
        """The additive part of the dual norm."""

    @abstractmethod
    def dual_norm(self, total: Scalar) -> Scalar:
        """The dual norm from the sum of all `measure`s."""

    @abstractmethod
    def steepest(self, weights: Sequence[Tensor], vectors: Sequence[Tensor], total: Scalar) -> Iterator[Tensor]:
        """The unit vector of steepest ascent, a tensor per vector; needs a finite, positive `total` on a CPU."""

    @abstractmethod
    def norm(self, weights: Sequence[Tensor], vectors: Sequence[Tensor]) -> Scalar:
        """||v||."""

    def multiple(self, total: Scalar) -> float | None:
        """The c of v = c a, where the host knows one: what the fast path needs."""
        return None


class _Scaled(Geometry):
    """The Euclidean norm in stretched coordinates: ||v|| = ||v / T||_2, so v = T^2 a / ||T a||_2 for T from the weights."""

    @abstractmethod
    def scale(self, weight: Tensor) -> Tensor | float:
        """T for one tensor of weights: an entry for each weight, or one for all."""

    def measure(self, weights: Sequence[Tensor], vectors: Sequence[Tensor]) -> Scalar:
        """sum (T_i a_i)^2."""
        return sum_of_squares([times(a, self.scale(w)) for w, a in zip(weights, vectors, strict=True)])

    def dual_norm(self, total: Scalar) -> Scalar:
        """sqrt(total)."""
        return total**0.5

    def steepest(self, weights: Sequence[Tensor], vectors: Sequence[Tensor], total: Scalar) -> Iterator[Tensor]:
        """T^2 a / sqrt(total)."""
        norm = self.dual_norm(total)
        for w, a in zip(weights, vectors, strict=True):
            t = self.scale(w)
            yield times(divide(times(a, t), norm), t)

    def norm(self, weights: Sequence[Tensor], vectors: Sequence[Tensor]) -> Scalar:
        """sqrt(sum (v_i / T_i)^2), with 0 / 0 = 0."""
        scaled = []
        for w, v in zip(weights, vectors, strict=True):
            t = self.scale(w)
            own = dense(v)
            scaled.append(own if isinstance(t, float) and t == 1.0 else torch.where(own == 0, 0.0, wide(own) / t))
        return sum_of_squares(scaled) ** 0.5


@dataclass(frozen=True)
class L2(_Scaled):
    """The Euclidean ball: v = a / ||a||_2 (Foret, Kleiner, Mobahi & Neyshabur, ICLR 2021, arXiv:2010.01412, eq. 2).

    Half-precision gradients give float32 directions. On an accelerator a zero or non-finite norm gives v = 0.

    >>> geometry, g = L2(), [torch.tensor([3.0]), torch.tensor([4.0])]
    >>> total = geometry.measure(g, g)
    >>> geometry.dual_norm(total), torch.cat(list(geometry.steepest(g, g, total)))
    (5.0, tensor([0.6000, 0.8000]))
    """

    def scale(self, weight: Tensor) -> float:
        """1."""
        return 1.0

    def measure(self, weights: Sequence[Tensor], vectors: Sequence[Tensor]) -> Scalar:
        """sum a_i^2."""
        return sum_of_squares(vectors)

    def multiple(self, total: Scalar) -> float | None:
        """1 / sqrt(total), where float32 has room for it."""
        norm = self.dual_norm(total)
        return None if isinstance(norm, Tensor) or not 1e-30 < norm < 1e30 else 1 / norm


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
    >>> next(geometry.steepest(w, g, geometry.measure(w, g)))
    tensor([2.7414, 0.4061])
    """

    eta: float = 0.01
    adapt: Callable[[Tensor], bool] | None = None

    def __post_init__(self) -> None:
        finite(self.eta, "eta", "Elementwise", low=0)

    def scale(self, weight: Tensor) -> Tensor | float:
        """|w| + eta, in float32 at least."""
        if self.adapt is not None and not self.adapt(weight):
            return 1.0
        return wide(weight.detach()).abs() + self.eta


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
    >>> total = geometry.measure(w, g)
    >>> geometry.dual_norm(total), torch.cat(list(geometry.steepest(w, g, total)))
    (10.0, tensor([1.2000, 0.8000]))
    """

    shards: ClassVar[bool] = False
    eta: float = 0.0
    adapt: Callable[[Tensor], bool] | None = None

    def __post_init__(self) -> None:
        finite(self.eta, "eta", "Layerwise", low=0)

    def scale(self, weight: Tensor) -> Tensor | float:
        """||w||_2 + eta: a float on a CPU, else a tensor of shape ()."""
        if self.adapt is not None and not self.adapt(weight):
            return 1.0
        size = sum_of_squares([weight.detach()]) ** 0.5
        return (size.to(wide(weight).real.dtype) if isinstance(size, Tensor) else size) + self.eta


@dataclass(frozen=True)
class LInf(Geometry):
    """The maximum-norm ball: v = sign(a), every weight moves by rho (Foret et al., ICLR 2021, eq. 2 with p = infinity).

    >>> geometry, g = LInf(), [torch.tensor([3.0, 0.0]), torch.tensor([-4.0])]
    >>> total = geometry.measure(g, g)
    >>> geometry.dual_norm(total), torch.cat(list(geometry.steepest(g, g, total)))
    (7.0, tensor([ 1.,  0., -1.]))
    """

    def measure(self, weights: Sequence[Tensor], vectors: Sequence[Tensor]) -> Scalar:
        """sum |a_i|."""
        return sum_of_magnitudes(vectors)

    def dual_norm(self, total: Scalar) -> Scalar:
        """total."""
        return total

    def steepest(self, weights: Sequence[Tensor], vectors: Sequence[Tensor], total: Scalar) -> Iterator[Tensor]:
        """sign(a); for complex numbers a / |a|."""
        for a in vectors:
            v = wide(a.coalesce() if a.is_sparse else a)
            if isinstance(total, Tensor):
                ok = torch.isfinite(total).to(v.device)
                yield torch.where(ok, torch.sgn(dense(v)), 0.0)
            else:
                yield torch.sgn(v)

    def norm(self, weights: Sequence[Tensor], vectors: Sequence[Tensor]) -> Scalar:
        """max |v_i|."""
        return largest_entry(vectors)


@dataclass(frozen=True)
class Masked(Geometry):
    """Only some weights move: the geometry `inner` on the coordinates that the mask lets through, 0 on the others.

    With a mask by Fisher information this is the sparse perturbation of Mi et al., Make Sharpness-Aware Minimization
    Stronger: A Sparsified Perturbation Approach, NeurIPS 2022, arXiv:2210.05177. To leave whole parameters out, a group
    with rho = 0 does the same and costs less.

    Args:
        mask: called with each tensor of weights; a bool, or a tensor of 0 and 1 of its shape. It is asked more than once a
            step and must answer the same: draw a random mask beforehand, and let `mask` look it up.
        inner: the geometry of the rest.

    >>> geometry = Masked(lambda w: w.abs() > 1, L2())
    >>> w, g = [torch.tensor([3.0, 1.0, 2.0])], [torch.tensor([3.0, 9.0, 4.0])]
    >>> total = geometry.measure(w, g)
    >>> geometry.dual_norm(total), next(geometry.steepest(w, g, total))
    (5.0, tensor([0.6000, 0.0000, 0.8000]))
    """

    shards: ClassVar[bool] = False  # a mask knows whole tensors
    mask: Callable[[Tensor], Tensor | bool]
    inner: Geometry = L2()  # frozen

    def _through(self, weights: Sequence[Tensor], vectors: Sequence[Tensor]) -> list[Tensor]:
        let = [self.mask(w.detach()) for w in weights]
        pairs = zip(vectors, let, strict=True)
        return [times(a, m.to(a.real.dtype) if isinstance(m, Tensor) else float(m)) for a, m in pairs]

    def measure(self, weights: Sequence[Tensor], vectors: Sequence[Tensor]) -> Scalar:
        """The inner measure of the masked vectors."""
        return self.inner.measure(weights, self._through(weights, vectors))

    def dual_norm(self, total: Scalar) -> Scalar:
        """The inner dual norm."""
        return self.inner.dual_norm(total)

    def steepest(self, weights: Sequence[Tensor], vectors: Sequence[Tensor], total: Scalar) -> Iterator[Tensor]:
        """The inner steepest ascent for the masked vectors."""
        return self.inner.steepest(weights, self._through(weights, vectors), total)

    def norm(self, weights: Sequence[Tensor], vectors: Sequence[Tensor]) -> Scalar:
        """The inner norm of what the mask lets through."""
        return self.inner.norm(weights, self._through(weights, vectors))


def matrices(weight: Tensor) -> bool:
    """Whether a tensor has two dimensions or more: the filter that leaves biases and norms out.

    >>> [matrices(p) for p in torch.nn.Linear(2, 3).parameters()]
    [True, False]
    """
    return weight.dim() >= 2
