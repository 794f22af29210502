"""The table of the methods of the studies; each is tuned by the same number of trials."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import product
from typing import TypeAlias

from torch import nn
from torch.optim.optimizer import Optimizer

from sharpmin.core.rho import Every, Tail
from sharpmin.optim import norm_groups
from sharpmin.optim.sam import SAM
from sharpmin.optim.variants import ae_sam, clipped_sam, looksam, momentum_sam, s2_sam

from ._settings import Setting

RADII = (0.5, 1.0, 2.0, 4.0)
"""The grid of rho, in units of the setting's rho times the method's scale."""
RATES = (0.5, 1.0, 2.0)
"""The grid of the learning rate where rho is tuned as well, in units of the setting's rate."""
ONLY_RATES = tuple(2 ** (k / 2) for k in range(-6, 6))
"""The grid of the learning rate without rho: as many trials, from an eighth to nearly six times the setting's rate."""

Build: TypeAlias = Callable[[Optimizer, float, nn.Module, int], SAM]
"""The base, rho, the model and the steps of the run -> the optimizer."""


@dataclass(frozen=True)
class Method:
    """A method of a study.

    Attributes:
        title: what a reader sees; "{base}" stands for the name of the base optimizer.
        build: makes the optimizer.
        promised: passes per step; None if they depend on the gradients.
        length: steps, in units of the setting's.
        scale: the factor of its grid of rho; 0 for a method without rho.
        norms: whether only the normalization layers are perturbed.
        look: color role and marker in figures.
    """

    title: str
    build: Build
    promised: float | None
    look: tuple[str, str]
    length: float = 1.0
    scale: float = 1.0
    norms: bool = False

    def trials(self, setting: Setting) -> Iterator[tuple[float, float]]:
        """The pairs of learning rate and rho to choose from."""
        if not self.scale:
            return ((setting.lr * rate, 0.0) for rate in ONLY_RATES)
        return ((setting.lr * rate, setting.rho * self.scale * radius) for rate, radius in product(RATES, RADII))

    def available(self, setting: Setting) -> bool:
        """Whether the net has what the method needs."""
        if self.norms:
            try:
                norm_groups(setting.model())
            except ValueError:
                return False
        return True


def _base(length: float) -> Method:
    title = "{base}" if length == 1 else f"{{base}}, {_times(length)} the steps"
    return Method(title, lambda base, rho, model, steps: SAM(base, 0.0, model=model), 1, ("soft", "square"), length, 0)


def _sam(length: float, symbol: str) -> Method:
    title = "SAM" if length == 1 else f"SAM, {_times(length)} the steps"
    return Method(title, lambda base, rho, model, steps: SAM(base, rho, model=model), 2, ("orange", symbol), length)


def _times(length: float) -> str:
    return str(Fraction(length).limit_denominator(9)) + " of" * (length < 1) + " x" * (length > 1)


METHODS: dict[str, Method] = {
    "base-1/2": _base(1 / 2),
    "base": _base(1),
    "base-4/3": _base(4 / 3),
    "base-2": _base(2),
    "sam": _sam(1, "circle"),
    "sam-2/3": _sam(2 / 3, "diamond"),
    "sam-1/2": _sam(1 / 2, "square"),
    "from-10": Method(
        "SAM from 10 % on",
        lambda base, rho, model, steps: SAM(base, Tail(rho, 0.1, total=steps), model=model), 1.9, ("orange", "triangle-up"),
    ),
    "clipped": Method(
        "SAM, clipped", lambda base, rho, model, steps: clipped_sam(base, rho, model=model), 2, ("purple", "circle")
    ),
    "every-3": Method(
        "SAM every third step",
        lambda base, rho, model, steps: SAM(base, Every(rho, 3), model=model), 4 / 3, ("blue", "circle"), scale=2.0,
    ),
    "last-third": Method(
        "SAM in the last third",
        lambda base, rho, model, steps: SAM(base, Tail(rho, 2 / 3, total=steps), model=model), 4 / 3, ("blue", "diamond"),
    ),
    "looksam": Method(
        "LookSAM, k = 3", lambda base, rho, model, steps: looksam(base, rho, k=3, model=model), 4 / 3, ("blue", "square")
    ),
    "gated": Method(
        "AE-SAM", lambda base, rho, model, steps: ae_sam(base, rho, total=steps, model=model), None, ("blue", "triangle-up")
    ),
    "momentum": Method(
        "momentum SAM", lambda base, rho, model, steps: momentum_sam(base, rho, model=model), 1, ("green", "circle"), scale=4.0
    ),
    "previous": Method("S²-SAM", lambda base, rho, model, steps: s2_sam(base, rho, model=model), 1, ("green", "diamond")),
    "norms": Method(
        "SAM on norm layers",
        lambda base, rho, model, steps: SAM(base, rho, model=model), 2, ("purple", "diamond"), scale=4.0, norms=True,
    ),
}  # fmt: skip
"""The methods of the study, by name."""


def methods(setting: Setting) -> list[str]:
    """The names of those that the setting's net can have, in the order of the table."""
    return [name for name, method in METHODS.items() if method.available(setting)]


def title(name: str, setting: Setting) -> str:
    """The title of a method for this setting's base."""
    return METHODS[name].title.format(base=setting.base_name)
