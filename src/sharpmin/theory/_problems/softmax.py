"""l2-regularized softmax regression: a strongly convex problem on real data, with its constants."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from sharpmin.core.extras import optional

from .._simulation.oracle import uniforms
from .problem import Problem

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from .problem import Array
else:
    np = optional("numpy", extra="lab")


@dataclass(frozen=True, repr=False, eq=False)
class SoftmaxRegression(Problem):
    """f(W) = (1/n) sum_i cross-entropy(W' a_i, label_i) + (l2/2) ||W||^2, W of shape (features, classes), flattened.

    The Hessian of the cross-entropy in the logits is at most 1/2; the gradient of one sample's loss has norm at most
    ||a_i|| ||p - onehot|| <= ||a_i|| sqrt(2), and a variance is at most the second moment, so

    ```
    mu = l2    beta = lambda_max(A'A/n)/2 + l2    beta_component = max ||a_i||^2 / 2 + l2
    sigma^2 <= mean 2 ||a_i||^2 / batch
    ```
    `beta_component` is the smoothness of one sample and bounds that of any batch; `beta_batch` estimates that of batches.
    """

    name: str
    features: Array  # (n, features)
    labels: NDArray[np.int64]  # (n,)
    classes: int
    l2: float
    batch: int = 32

    @property
    def dim(self) -> int:  # type: ignore[override]
        """Features times classes."""
        return int(self.features.shape[1]) * self.classes

    @cached_property
    def beta(self) -> float:
        """lambda_max(A'A/n)/2 + l2."""
        a = self.features
        return float(np.linalg.eigvalsh(a.T @ a / len(a))[-1] / 2 + self.l2)

    @property
    def mu(self) -> float:
        """The regularizer."""
        return self.l2

    @cached_property
    def beta_component(self) -> float:
        """Max ||a_i||^2/2 + l2."""
        return float((self.features**2).sum(axis=1).max() / 2 + self.l2)

    @cached_property
    def beta_batch(self) -> float:
        """(E beta_batch^2)^(1/2) over random batches: an estimate from 1000 of them, plus four standard errors."""
        draw = self.draw(uniforms([0], np.arange(1000), self.batch)[:, 0])
        a = self.features[draw]
        squares = (np.linalg.eigvalsh(a @ np.swapaxes(a, 1, 2) / self.batch)[:, -1] / 2 + self.l2) ** 2
        return math.sqrt(squares.mean() + 4 * squares.std(ddof=1) / math.sqrt(len(squares)))

    @property
    def resolution(self) -> float:
        """The rounding error of a difference of two values near 1."""
        return 1e-14

    @cached_property
    def sigma(self) -> float:
        """The root of the bound on sigma^2 above; the true value is smaller."""
        return math.sqrt(2 * float((self.features**2).sum(axis=1).mean()) / self.batch)

    @cached_property
    def minimizer(self) -> Array:
        """W*, shape (dim,), to a gradient norm of 1e-9.

        Raises:
            RuntimeError: if scipy does not reach that norm.
        """
        optimize = optional("scipy.optimize", extra="lab")

        def both(w: Array) -> tuple[float, Array]:
            return float(self.value(w[None])[0]), self.gradient(w[None])[0]

        near = optimize.minimize(both, np.zeros(self.dim), jac=True, method="L-BFGS-B", options={"maxiter": 5000}).x
        found = optimize.newton_krylov(lambda w: self.gradient(w[None])[0], near, f_tol=1e-12)  # near W*, f is all rounding
        size = float(np.linalg.norm(self.gradient(found[None])))
        if size > 1e-9:
            raise RuntimeError(f"{self.name}: the optimum was found only to a gradient norm of {size:.1e}, need 1e-9")
        return np.asarray(found)

    @cached_property
    def f_star(self) -> float:
        """The value at the minimizer."""
        return float(self.value(self.minimizer[None])[0])

    def value(self, x: Array) -> Array:
        """f, shape (lanes,)."""
        logits = self.features @ self._weights(x)
        top = logits.max(axis=-1, keepdims=True)
        normalizer = np.log(np.exp(logits - top).sum(axis=-1)) + top[..., 0]
        chosen = logits[:, np.arange(len(self.labels)), self.labels]
        return np.asarray((normalizer - chosen).mean(axis=-1) + self.l2 / 2 * (x * x).sum(axis=-1))

    def gradient(self, x: Array) -> Array:
        """The full gradient, shape (lanes, dim)."""
        return self._gradient(x, np.broadcast_to(self.features, (len(x), *self.features.shape)), self.labels[None])

    def sample_gradient(self, x: Array, draw: Any) -> Array:
        """The gradient of a batch with replacement, `draw` of shape (lanes, batch)."""
        return self._gradient(x, self.features[draw], self.labels[draw])

    def _gradient(self, x: Array, a: Array, labels: NDArray[np.int64]) -> Array:
        logits = a @ self._weights(x)
        logits -= logits.max(axis=-1, keepdims=True)
        np.exp(logits, out=logits)
        logits /= logits.sum(axis=-1, keepdims=True)
        lanes, rows = np.arange(logits.shape[0]), np.arange(logits.shape[1])
        logits[lanes[:, None], rows, labels] -= 1.0
        slope = np.swapaxes(a, 1, 2) @ logits / a.shape[1]
        return np.asarray(slope.reshape(x.shape) + self.l2 * x)

    def draw(self, u: Array) -> NDArray[np.int64]:
        """A uniform sample index."""
        return (u * len(self.labels)).astype(np.int64)

    def _weights(self, x: Array) -> Array:
        return x.reshape(len(x), self.features.shape[1], self.classes)
