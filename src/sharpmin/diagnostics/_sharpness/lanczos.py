"""Ends of the spectrum of a symmetric linear map in NumPy, to a residual relative to the size of the whole spectrum.

The tolerance is relative to the size, not to the eigenvalue: an overparametrized net at a minimum has a smallest eigenvalue
of almost 0, whose relative error no iteration makes small. Each end is that of H + s or H - s, with s three times the size;
the Krylov space is the same.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from sharpmin.core.extras import optional

if TYPE_CHECKING:
    import numpy as np
    from scipy.sparse import linalg
else:
    np = optional("numpy", extra="lab")
    linalg = optional("scipy.sparse.linalg", extra="lab")

Array = Any
Product = Callable[[Array], Array]  # a float64 array of shape (n,) to another

_DENSE = 32  # up to this size the whole matrix costs less than the iteration
_WARM_UP = 6
_SHIFT = 3.0


def dense(n: int, k: int) -> bool:
    """Whether to build the whole matrix for `k` of `n` eigenvalues."""
    return n <= _DENSE or 2 * k + 1 >= n


def columns(product: Product, n: int) -> Array:
    """The matrix, shape (n, n), made symmetric.

    >>> columns(lambda x: 2 * x, 2)
    array([[2., 0.],
           [0., 2.]])
    """
    matrix = np.stack([product(row) for row in np.eye(n)])
    return (matrix + matrix.T) / 2


def size(product: Product, start: Array) -> float:
    """A lower bound of the largest |eigenvalue|, usually close, by power iteration; 0 for the zero map."""
    v, found = start / np.linalg.norm(start), 0.0
    for _ in range(_WARM_UP):
        v = product(v)
        found = float(np.linalg.norm(v))
        if not found:
            break
        v = v / found
    return found


def end(product: Product, start: Array, k: int, sign: int, scale: float, tol: float, max_products: int) -> Array:
    """Orthonormal vectors of the k largest (`sign` 1) or smallest (-1) eigenvalues, shape (n, k).

    Args:
        product: the map H.
        start: the first Krylov vector, shape (n,).
        k: how many, below (n - 1) / 2.
        sign: 1 or -1.
        scale: from `size`.
        tol: of the residual, relative to the largest |eigenvalue|.
        max_products: stop with an error after about as many products.

    Raises:
        RuntimeError: if that was not enough.
    """
    n, shift = len(start), sign * _SHIFT * scale
    if not scale:
        return np.eye(n, k)
    operator = linalg.LinearOperator((n, n), matvec=lambda x: product(x.reshape(n)) + shift * x.reshape(n), dtype=np.float64)
    basis = min(n, max(2 * k + 1, 20))
    try:
        _, found = linalg.eigsh(
            operator,
            k=k,
            which="LA" if sign > 0 else "SA",
            v0=start,
            ncv=basis,
            tol=tol / (1 + _SHIFT),
            maxiter=max(1, max_products // (basis - k)),
        )
    except linalg.ArpackNoConvergence:
        raise RuntimeError(
            f"hessian_spectrum: no {'largest' if sign > 0 else 'smallest'} eigenvalues to tol={tol:g} after about "
            f"{max_products} products; give a larger tol, such as tol=1e-2, or a larger max_products"
        ) from None
    return found


def settle(product: Product, vectors: Array, sign: int) -> tuple[list[float], list[float], Array]:
    """Rayleigh quotients v'Hv, outermost first, residuals ||H v - lambda v||, and the vectors; one product for each."""
    images = np.stack([product(v) for v in vectors.T], axis=1)
    values = (vectors * images).sum(0)
    order = np.argsort(-sign * values, kind="stable")
    residuals = np.linalg.norm(images - vectors * values, axis=0)
    return values[order].tolist(), residuals[order].tolist(), vectors[:, order]
