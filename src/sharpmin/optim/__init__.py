"""The optimizer: `SAM` and the parts it is made of; `variants/` holds the named compositions, one short file each."""

from ._report import StepReport
from .ascent import Ascent, Ema, Gradient, Momentum
from .descent import ClippedDifference, Descent, Mix, Perturbed
from .geometry import L2, Elementwise, Geometry, Layerwise, LInf, Masked, matrices
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
