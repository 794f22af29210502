"""Real data: softmax regression on the 1797 handwritten digits that scikit-learn bundles."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

from sharpmin.core.extras import optional
from sharpmin.core.rho import finite, positive_integer

from .registry import problem
from .softmax import SoftmaxRegression

if TYPE_CHECKING:
    import numpy as np
else:
    np = optional("numpy", extra="lab")


@problem("digits")
def digits(*, l2: float = 0.1, batch: int = 32) -> SoftmaxRegression:
    """Pixels / 16, no intercept, batches drawn with replacement.

    Raises:
        ValueError: unless l2 > 0 and batch >= 1.

    >>> f = digits()
    >>> round(f.beta, 3), round(f.beta_component, 2), round(f.f_star, 6)
    (5.328, 11.65, 1.668359)
    """
    return _digits(finite(l2, "l2", "digits", low=0, strict=True), positive_integer(batch, "batch", "digits"))


@lru_cache(maxsize=4)
def _digits(l2: float, batch: int) -> SoftmaxRegression:
    data = optional("sklearn.datasets", extra="lab").load_digits()
    features = np.asarray(data.data, dtype=np.float64) / 16.0
    return SoftmaxRegression("digits", features, np.asarray(data.target, dtype=np.int64), 10, l2, batch)
