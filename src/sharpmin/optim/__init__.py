"""The optimizer: `SAM` and the parts it is made of; `variants/` holds the named compositions, one short file each."""

from ._ascent import Ema, Gradient, Momentum
from ._descent import ClippedDifference, Mix, Perturbed
from ._effects.report import StepReport
from ._geometry import L2, Elementwise, Layerwise, LInf, matrices
from ._masked import Masked
from ._protocols import Ascent, Context, Descent, Geometry, Metric
from .sam import SAM

__all__ = [
    "L2",
    "SAM",
    "Ascent",
    "ClippedDifference",
    "Context",
    "Descent",
    "Elementwise",
    "Ema",
    "Geometry",
    "Gradient",
    "LInf",
    "Layerwise",
    "Masked",
    "Metric",
    "Mix",
    "Momentum",
    "Perturbed",
    "StepReport",
    "matrices",
]
