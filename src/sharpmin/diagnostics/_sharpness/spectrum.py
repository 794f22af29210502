"""Both ends of the Hessian spectrum, with sign, from Hessian-vector products over all samples."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from sharpmin.core.extras import optional
from sharpmin.core.rho import finite, positive_integer
from sharpmin.core.text import block

from . import lanczos
from .curvature import Hessian
from .objective import LossFn, check_seed, looking

if TYPE_CHECKING:
    import numpy as np
else:
    np = optional("numpy", extra="lab")

Vector = tuple[Tensor, ...]

_ENDS = {"both": (1, -1), "largest": (1,), "smallest": (-1,)}


@dataclass(frozen=True)
class Spectrum:
    """The result of `hessian_spectrum`; an end that was not requested is ().

    Attributes:
        largest: the k largest eigenvalues, descending.
        smallest: the k smallest, ascending; negative ones are directions of descent.
        largest_residuals, smallest_residuals: ||H v - lambda v||_2, each from one more product: an eigenvalue lies within
            this distance of lambda.
        largest_vectors, smallest_vectors: if asked for, the unit eigenvectors, each a float64 tensor for every weight.
        products: the number of Hessian-vector products, each a pass over the data, or two with finite differences.
        method: of the products, "autograd" or "finite differences" (to three or four digits in float32).
    """

    largest: tuple[float, ...]
    smallest: tuple[float, ...]
    largest_residuals: tuple[float, ...]
    smallest_residuals: tuple[float, ...]
    products: int
    method: str
    largest_vectors: tuple[Vector, ...] = field(default=(), repr=False, compare=False)
    smallest_vectors: tuple[Vector, ...] = field(default=(), repr=False, compare=False)

    def __str__(self) -> str:
        """The eigenvalues from the largest down, each with its residual.

        >>> print(Spectrum((6.0, 2.5), (-0.5,), (1e-9, 2e-9), (3e-9,), products=12, method="autograd"))
        ends of the Hessian spectrum
          largest   6         residual 1e-09
                    2.5       residual 2e-09
          smallest  -0.5      residual 3e-09
          products  12        Hessian-vector products
          method    autograd
        """
        ends = {"largest": (self.largest, self.largest_residuals), "smallest": (self.smallest, self.smallest_residuals)}
        rows: list[tuple[object, ...]] = [
            ("" if i else name, value, f"residual {residual:.1g}")
            for name, (values, residuals) in ends.items()
            for i, (value, residual) in enumerate(zip(values, residuals, strict=True))
        ]
        rows += [("products", self.products, "Hessian-vector products"), ("method", self.method)]
        return block("ends of the Hessian spectrum", rows)


def hessian_spectrum(
    model: nn.Module,
    loss_fn: LossFn,
    data: Iterable[Any],
    *,
    k: int = 1,
    which: str = "both",
    tol: float = 1e-3,
    seed: int = 0,
    vectors: bool = False,
    max_products: int = 1000,
) -> Spectrum:
    """The k largest and the k smallest eigenvalues of H, the Hessian of the mean loss over all samples, with sign.

    H v = grad <grad L(w), v> is summed over the batches, each with its number of samples (Pearlmutter, Fast Exact
    Multiplication by the Hessian, 1994), and fed to the Lanczos iteration of scipy (`eigsh`: Lehoucq, Sorensen & Yang, ARPACK
    Users' Guide, 1998). Spectra of nets this way: Yao et al., PyHessian: Neural Networks Through the Lens of the Hessian,
    2020, arXiv:1912.07145. With n <= 32 weights, or k near n / 2, all of H is built. Of equal eigenvalues the iteration may
    find fewer than there are.

    Read-only and in evaluation mode, as `worst_loss`. Memory: about 2 k + 20 vectors of n numbers in float64.

    Args:
        model: as in `worst_loss`.
        loss_fn: as in `worst_loss`.
        data: as in `worst_loss`.
        k: how many at each end, from 1 to n.
        which: "both", "largest" or "smallest".
        tol: the residual to reach, relative to the largest |eigenvalue|, > 0. The error of an isolated eigenvalue is far
            smaller; in a cluster, as at 0 in an overparametrized net, 1e-5 may cost thousands of products.
        seed: of the first vector.
        vectors: whether to return the eigenvectors.
        max_products: stop with an error after about as many products at one end.

    Returns:
        A `Spectrum`.

    Raises:
        TypeError: as in `worst_loss`; also for k, which or tol out of range, or a product that is not finite.
        ValueError: as in `worst_loss`; also for k, which or tol out of range, or a product that is not finite.
        RuntimeError: if `max_products` are not enough.
        MissingExtraError: if scipy is not installed.

    >>> class Saddle(nn.Module):  # (x y - 1)^2, whose gradient is 0 at x = y = 0, where H = [[0, -2], [-2, 0]]
    ...     def __init__(self):
    ...         super().__init__()
    ...         self.w = nn.Parameter(torch.zeros(2, dtype=torch.float64))
    ...
    ...     def forward(self, ones):
    ...         return self.w.prod() * ones
    >>> ones = torch.ones(1, dtype=torch.float64)
    >>> found = hessian_spectrum(Saddle(), nn.MSELoss(), [(ones, ones)])
    >>> [round(v, 6) for v in (*found.largest, *found.smallest)]
    [2.0, -2.0]
    """
    _check(k, which, tol, seed, max_products)
    with looking(model, loss_fn, data, "hessian_spectrum") as (objective, batches):
        hessian = Hessian(objective, batches)
        flat = _Flat(objective.held.weights, hessian)
        if k > flat.n:
            raise ValueError(
                f"hessian_spectrum: k={k}; the model has {flat.n} trainable weights, and k must be from 1 to {flat.n}"
            )
        found = _ends(flat, k, _ENDS[which], tol, seed, max_products)
        shaped = {sign: flat.shaped(part[2]) if vectors else () for sign, part in found.items()}
    top, bottom = found.get(1, _NOTHING), found.get(-1, _NOTHING)
    return Spectrum(
        largest=tuple(top[0]),
        smallest=tuple(bottom[0]),
        largest_residuals=tuple(top[1]),
        smallest_residuals=tuple(bottom[1]),
        products=hessian.products,
        method=hessian.method,
        largest_vectors=shaped.get(1, ()),
        smallest_vectors=shaped.get(-1, ()),
    )


End = tuple[list[float], list[float], Any]
_NOTHING: End = ([], [], None)


def _ends(flat: _Flat, k: int, signs: Iterable[int], tol: float, seed: int, max_products: int) -> dict[int, End]:
    """Values, residuals and vectors for each end."""
    if lanczos.dense(flat.n, k):
        matrix = lanczos.columns(flat.product, flat.n)
        _, vectors = np.linalg.eigh(matrix)
        return {s: lanczos.settle(matrix.__matmul__, vectors[:, -k:] if s > 0 else vectors[:, :k], s) for s in signs}
    start = np.random.default_rng(seed).standard_normal(flat.n)
    scale = lanczos.size(flat.product, start)
    return {s: lanczos.settle(flat.product, lanczos.end(flat.product, start, k, s, scale, tol, max_products), s) for s in signs}


@dataclass(frozen=True)
class _Flat:
    """The Hessian on one float64 array of all weights."""

    weights: list[nn.Parameter]
    hessian: Hessian

    @property
    def n(self) -> int:
        return sum(p.numel() for p in self.weights)

    def product(self, x: Any) -> Any:
        """H x, shape (n,)."""
        return torch.cat([h.reshape(-1).cpu() for h in self.hessian(self._split(x))]).numpy()

    def shaped(self, vectors: Any) -> tuple[Vector, ...]:
        """The columns, each as a float64 tensor for every weight."""
        return tuple(tuple(self._split(v)) for v in vectors.T)

    def _split(self, x: Any) -> list[Tensor]:
        parts = torch.split(torch.from_numpy(np.array(x)), [p.numel() for p in self.weights])
        return [part.view(p.shape).to(p.device) for part, p in zip(parts, self.weights, strict=True)]


def _check(k: int, which: str, tol: float, seed: int, max_products: int) -> None:
    owner = "hessian_spectrum"
    positive_integer(k, "k", owner)
    positive_integer(max_products, "max_products", owner)
    finite(tol, "tol", owner, low=0, strict=True)
    check_seed(seed, owner)
    if which not in _ENDS:
        raise ValueError(f"{owner}: which={which!r}; which must be one of {', '.join(_ENDS)}")
