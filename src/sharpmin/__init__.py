"""sharpmin: sharpness-aware minimization (SAM) that is right in real training, and a laboratory for its theory.

What trains is imported at once; the theory, the diagnostics, the integrations and the checks when their names are first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from . import optim, rho
from ._version import __version__
from .core.errors import MissingExtraError, PhaseError
from .core.rho import StepInfo
from .optim import (
    L2,
    SAM,
    ClippedDifference,
    Elementwise,
    Ema,
    FisherMask,
    FunctionalLoss,
    Gradient,
    Layerwise,
    LInf,
    Masked,
    Mix,
    Momentum,
    Perturbed,
    PreviousGradient,
    RandomDirection,
    Renormalized,
    Residual,
    ReuseOrthogonal,
    Spectral,
    StepReport,
    SurrogateGap,
)
from .optim.variants import (
    ae_sam,
    asam,
    capped_sam,
    clipped_sam,
    create,
    decayed_sam,
    every_k_sam,
    fisher_sam,
    friendly_sam,
    gsam,
    looksam,
    momentum_sam,
    random_sam,
    s2_sam,
    sam,
    spectral_sam,
    stable_sam,
    usam,
    variants,
    vasso,
)

if TYPE_CHECKING:
    from . import diagnostics, integrations, theory
    from ._check import check
    from .diagnostics import diagnose, watch

__all__ = [
    "L2",
    "SAM",
    "ClippedDifference",
    "Elementwise",
    "Ema",
    "FisherMask",
    "FunctionalLoss",
    "Gradient",
    "LInf",
    "Layerwise",
    "Masked",
    "MissingExtraError",
    "Mix",
    "Momentum",
    "Perturbed",
    "PhaseError",
    "PreviousGradient",
    "RandomDirection",
    "Renormalized",
    "Residual",
    "ReuseOrthogonal",
    "Spectral",
    "StepInfo",
    "StepReport",
    "SurrogateGap",
    "__version__",
    "ae_sam",
    "asam",
    "capped_sam",
    "check",
    "clipped_sam",
    "create",
    "decayed_sam",
    "diagnose",
    "diagnostics",
    "every_k_sam",
    "fisher_sam",
    "friendly_sam",
    "gsam",
    "integrations",
    "looksam",
    "momentum_sam",
    "optim",
    "random_sam",
    "rho",
    "s2_sam",
    "sam",
    "spectral_sam",
    "stable_sam",
    "theory",
    "usam",
    "variants",
    "vasso",
    "watch",
]

_MODULES = ("diagnostics", "integrations", "theory")
_HOMES = {"check": "_check", "diagnose": "diagnostics", "watch": "diagnostics"}
"""What is imported on first use: modules, and functions with the module that has them."""

if not TYPE_CHECKING:  # a type checker that saw it would let every misspelt name pass

    def __getattr__(name: str) -> object:
        if name in _MODULES:
            return import_module(f".{name}", __name__)
        if name in _HOMES:
            return globals().setdefault(name, getattr(import_module(f".{_HOMES[name]}", __name__), name))
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
