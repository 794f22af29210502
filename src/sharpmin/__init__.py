"""sharpmin: sharpness-aware minimization (SAM) that is correct in real training, and a laboratory for its theory.

Every name is imported when it is first used, so that most commands run without loading torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from ._version import __version__

if TYPE_CHECKING:
    from . import diagnostics, integrations, optim, rho, theory
    from ._check import check
    from .core.errors import MissingExtraError, PhaseError
    from .core.rho import StepInfo
    from .diagnostics import diagnose, watch
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

_MODULES = ("diagnostics", "integrations", "optim", "rho", "theory")
_HOMES = {
    "MissingExtraError": "core.errors",
    "PhaseError": "core.errors",
    "StepInfo": "core.rho",
    "check": "_check",
    "diagnose": "diagnostics",
    "watch": "diagnostics",
}
"""Names that are in neither `optim.variants` nor `optim`, with their modules."""

if not TYPE_CHECKING:  # hidden from type checkers, which would otherwise accept every misspelled name

    def __getattr__(name: str) -> object:
        if name in _MODULES:
            return import_module(f".{name}", __name__)
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        home = import_module(f".{_HOMES.get(name, 'optim.variants')}", __name__)
        if not hasattr(home, name):
            home = import_module(".optim", __name__)
        return globals().setdefault(name, getattr(home, name))


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
