"""What each study trains: samples, a net, a base optimizer, and the grids that every method is tuned on."""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.optimizer import Optimizer

from . import _nets as nets
from . import _samples as samples
from ._samples import Samples

CLEAN = 0.0
"""Label noise 0: all labels are true."""

NOISY = 0.4
"""The share of training and validation labels that are drawn at random, uniformly over all classes."""

Base = Callable[[Any, float], Optimizer]
"""Weights or parameter groups, and the learning rate -> the base optimizer."""


def momentum_sgd(weights: Any, lr: float) -> Optimizer:
    """SGD with momentum 0.9."""
    return torch.optim.SGD(weights, lr=lr, momentum=0.9)


def adamw(weights: Any, lr: float) -> Optimizer:
    """AdamW as torch has it."""
    return torch.optim.AdamW(weights, lr=lr)


@dataclass(frozen=True)
class Setting:
    """A data set with everything that its runs share.

    Attributes:
        name, title: what it is called, and what is trained.
        load: loads the samples, with their true labels.
        model: makes the net, from the global random state.
        base: makes the base optimizer, of which `base_name` is the name.
        epochs: the epochs of a run of length 1; the learning rate falls from its start to 0 on half a cosine.
        batch: samples per batch; epochs are reshuffled, and an incomplete last batch is dropped.
        lr, rho: the middle of the grids, see `Method.trials`.
        seconds: about how long one pass (forward, backward, and its share of a step) takes on one core.
        noises: shares of label noise.
        l2: the factor of a penalty on all weights.
    """

    name: str
    title: str
    load: Callable[[], Samples]
    model: Callable[[], nn.Module]
    epochs: int
    batch: int
    lr: float
    rho: float
    seconds: float
    base: Base = momentum_sgd
    base_name: str = "SGD"
    noises: tuple[float, ...] = (CLEAN, NOISY)
    l2: float = 0.0

    def steps(self, length: float) -> int:
        """The number of steps of a run, from its length in units of `epochs`."""
        return round(length * self.epochs * self.epoch)

    @property
    def epoch(self) -> int:
        """The steps of an epoch."""
        return len(self.load().x) // self.batch

    def loss(self, model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        """Cross-entropy, for text over all positions of a window, plus the penalty."""
        loss = nn.functional.cross_entropy(model(x).flatten(0, -2), y.flatten())
        return loss + self.l2 / 2 * sum((p**2).sum() for p in model.parameters()) if self.l2 else loss


def falling(step: int, steps: int) -> float:
    """The factor of the learning rate: half a cosine from 1 to 0.

    >>> falling(0, 100), round(falling(50, 100), 9), falling(100, 100)
    (1.0, 0.5, 0.0)
    """
    return (1 + math.cos(math.pi * step / steps)) / 2


SETTINGS: dict[str, Setting] = {
    setting.name: setting
    for setting in (
        Setting(
            "digits", "a perceptron on handwritten digits", samples.digits, nets.perceptron,
            epochs=25, batch=100, lr=0.2, rho=0.1, seconds=0.0018,
        ),
        Setting(
            "mnist1d", "a convolutional net on mnist1d", samples.mnist1d, nets.convolutions,
            epochs=10, batch=100, lr=0.2, rho=0.05, seconds=0.0060,
        ),
        Setting(
            "mnist-5k", "a convolutional net with BatchNorm on 5,000 digits of MNIST", samples.mnist_5k, nets.batchnorm,
            epochs=8, batch=64, lr=0.03, rho=0.06, seconds=0.0060,
        ),
        Setting(
            "pydoc", "a transformer over the characters of Python's help texts", samples.pydoc, nets.Transformer,
            epochs=4, batch=32, lr=0.024, rho=0.02, seconds=0.0150, base=adamw, base_name="AdamW", noises=(CLEAN,),
        ),
        Setting(
            "breast-cancer", "softmax regression on breast-cancer", samples.breast_cancer, nets.softmax,
            epochs=40, batch=32, lr=0.05, rho=0.2, seconds=0.0014, l2=0.01,
        ),
    )
}  # fmt: skip
"""The tasks of the study, by name."""


def setting(name: str) -> Setting:
    """A setting by name.

    Raises:
        ValueError: if there is none; the message names the nearest.

    >>> setting("digits").title
    'a perceptron on handwritten digits'
    """
    if name not in SETTINGS:
        near = difflib.get_close_matches(name, SETTINGS, n=1, cutoff=0.4)
        raise ValueError(f"no study {name!r}; {f'did you mean {near[0]}?' if near else 'there are ' + ', '.join(SETTINGS)}")
    return SETTINGS[name]
