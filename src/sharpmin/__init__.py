"""sharpmin: sharpness-aware minimization (SAM) that is right in real training, and a laboratory for its theory."""

from . import optim, theory
from ._version import __version__
from .core import rho
from .core.errors import MissingExtraError, PhaseError
from .core.rho import StepInfo
from .optim import L2, SAM, StepReport
from .optim.variants import capped_sam, create, sam, usam, variants

__all__ = [
    "L2",
    "SAM",
    "MissingExtraError",
    "PhaseError",
    "StepInfo",
    "StepReport",
    "__version__",
    "capped_sam",
    "create",
    "optim",
    "rho",
    "sam",
    "theory",
    "usam",
    "variants",
]
