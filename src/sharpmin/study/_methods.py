"""The methods of the studies, as a table: a new one is one entry. Each is tuned by the same number of trials."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import product
from typing import TypeAlias

from torch import Tensor, nn
from torch.optim.optimizer import Optimizer

from sharpmin.core.rho import Tail
from sharpmin.optim._ascent import Momentum
from sharpmin.optim.sam import SAM
from sharpmin.optim.variants import clipped_sam, create, looksam

from ._settings import Setting

RADII = (0.5, 1.0, 2.0, 4.0)
"""The grid of rho, in units of the setting's times the method's."""
RATES = (0.5, 1.0, 2.0)
"""The grid of the learning rate where rho is tuned as well, in units of the setting's."""
ONLY_RATES = tuple(2 ** (k / 2) for k in range(-4, 8))
"""The one where there is no rho: as many trials, from a quarter to eleven times."""
TRIALS = len(RADII) * len(RATES)

Build: TypeAlias = Callable[[Optimizer, float, nn.Module, int], SAM]
"""The base, rho, the model and the steps of the run -> the optimizer."""


@dataclass(frozen=True)
class Method:
    """A point of the frontier.

    Attributes:
        title: what a reader sees; "{base}" stands for the name of the base optimizer.
        build: makes the optimizer.
        promised: passes, forward and backward, a step; None where the gradients decide.
        length: steps, in units of the setting's.
        scale: of its grid of rho, in units of the setting's; 0 for a method without rho.
        norms: perturb the normalization layers alone.
        look: colour role and marker in figures.
    """

    title: str
    build: Build
    promised: float | None
    look: tuple[str, str]
    length: float = 1.0
    scale: float = 1.0
    norms: bool = False

    def trials(self, setting: Setting) -> Iterator[tuple[float, float]]:
        """Learning rates and radii to choose from."""
        if not self.scale:
            return ((setting.lr * rate, 0.0) for rate in ONLY_RATES)
        return ((setting.lr * rate, setting.rho * self.scale * radius) for rate, radius in product(RATES, RADII))

    def available(self, setting: Setting) -> bool:
        """Whether the net has what the method needs."""
        return not self.norms or bool(norm_weights(setting.model()))


def norm_weights(model: nn.Module) -> list[Tensor]:
    """The weights of all normalization layers."""
    kinds = (nn.modules.batchnorm._NormBase, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm)
    return [p for module in model.modules() if isinstance(module, kinds) for p in module.parameters(recurse=False)]


def _base(length: float) -> Method:
    title = "{base}" if length == 1 else f"{{base}}, {length:g} x the steps"
    return Method(title, lambda base, rho, model, steps: SAM(base, 0.0, model=model), 1, ("soft", "square"), length, 0)


METHODS: dict[str, Method] = {
    "base-0.5": _base(0.5),
    "base": _base(1.0),
    "base-1.33": _base(4 / 3),
    "base-2": _base(2.0),
    "sam": Method("SAM", lambda base, rho, model, steps: SAM(base, rho, model=model), 2, ("orange", "circle")),
    "sam-0.67": Method(
        "SAM, 2/3 of the steps", lambda base, rho, model, steps: SAM(base, rho, model=model), 2, ("orange", "diamond"), 2 / 3
    ),
    "sam-0.5": Method(
        "SAM, half of the steps", lambda base, rho, model, steps: SAM(base, rho, model=model), 2, ("orange", "square"), 1 / 2
    ),
    "from-10": Method(
        "SAM from 10 % on",
        lambda base, rho, model, steps: SAM(base, Tail(rho, 0.1, total=steps), model=model), 1.9, ("orange", "x"),
    ),
    "clipped": Method(
        "SAM, clipped", lambda base, rho, model, steps: clipped_sam(base, rho, theta=0.5, model=model), 2, ("purple", "circle")
    ),
    "every-3": Method(
        "SAM on every third step",
        lambda base, rho, model, steps: create("every_k_sam", base, rho=rho, k=3, model=model), 4 / 3, ("blue", "circle"),
    ),
    "from-67": Method(
        "SAM in the last third",
        lambda base, rho, model, steps: SAM(base, Tail(rho, 2 / 3, total=steps), model=model), 4 / 3, ("blue", "diamond"),
    ),
    "looksam": Method(
        "LookSAM, every third step",
        lambda base, rho, model, steps: looksam(base, rho, k=3, model=model), 4 / 3, ("blue", "square"),
    ),
    "adaptive": Method(
        "AE-SAM", lambda base, rho, model, steps: create("ae_sam", base, rho=rho, total=steps, model=model), None, ("blue", "x")
    ),
    "momentum": Method(
        "momentum SAM", lambda base, rho, model, steps: SAM(base, rho, ascent=Momentum(), model=model), 1, ("green", "circle"),
        scale=4.0,
    ),
    "previous": Method(
        "S²-SAM", lambda base, rho, model, steps: create("s2_sam", base, rho=rho, model=model), 1, ("green", "diamond")
    ),
    "norms": Method(
        "SAM on norm layers", lambda base, rho, model, steps: SAM(base, rho, model=model), 2, ("purple", "diamond"),
        scale=4.0, norms=True,
    ),
}  # fmt: skip
"""Name -> method."""


def methods(setting: Setting) -> list[str]:
    """The names of those that the setting's net can have, in the order of the table."""
    return [name for name, method in METHODS.items() if method.available(setting)]


def title(name: str, setting: Setting) -> str:
    """What a reader sees of a method."""
    return METHODS[name].title.format(base=setting.base_name)
