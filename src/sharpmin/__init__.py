"""sharpmin: sharpness-aware minimization (SAM) that is right in real training, and a laboratory for its theory."""

from . import diagnostics, integrations, optim, rho, theory
from ._check import check
from ._version import __version__
from .core.errors import MissingExtraError, PhaseError
from .core.rho import StepInfo
from .diagnostics import diagnose, watch
from .optim import (
    L2,
    SAM,
    ClippedDifference,
    Elementwise,
    Ema,
    Gradient,
    Layerwise,
    LInf,
    Masked,
    Mix,
    Momentum,
    Perturbed,
    StepReport,
)
from .optim.variants import asam, capped_sam, clipped_sam, create, decayed_sam, sam, usam, variants

__all__ = [
    "L2",
    "SAM",
    "ClippedDifference",
    "Elementwise",
    "Ema",
    "Gradient",
    "LInf",
    "Layerwise",
    "Masked",
    "MissingExtraError",
    "Mix",
    "Momentum",
    "Perturbed",
    "PhaseError",
    "StepInfo",
    "StepReport",
    "__version__",
    "asam",
    "capped_sam",
    "check",
    "clipped_sam",
    "create",
    "decayed_sam",
    "diagnose",
    "diagnostics",
    "integrations",
    "optim",
    "rho",
    "sam",
    "theory",
    "usam",
    "variants",
    "watch",
]
