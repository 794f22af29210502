"""The optimizer: `SAM` and the parts it is made of; `variants/` holds the named compositions, one short file each."""

from ._ascent import Ascent, Ema, Gradient, Momentum
from ._descent import ClippedDifference, Descent, Mix, Perturbed
from ._effects.report import StepReport
from ._geometry import L2, Elementwise, Geometry, Layerwise, LInf, Masked, matrices
from .sam import SAM

__all__ = [
    "L2",
    "SAM",
    "Ascent",
    "ClippedDifference",
    "Descent",
    "Elementwise",
    "Ema",
    "Geometry",
    "Gradient",
    "LInf",
    "Layerwise",
    "Masked",
    "Mix",
    "Momentum",
    "Perturbed",
    "StepReport",
    "matrices",
]
