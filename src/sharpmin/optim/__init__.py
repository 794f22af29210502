"""The optimizer: `SAM` and the parts it is made of; `variants/` holds the named compositions, one short file each."""

from ._ascent import Ema, Gradient, Momentum, PreviousGradient
from ._descent import ClippedDifference, Mix, Perturbed
from ._effects.report import StepReport
from ._functional import FunctionalLoss
from ._geometry import L2, Elementwise, Layerwise, LInf, matrices
from ._masked import Masked
from ._norm_groups import norm_groups
from ._protocols import Ascent, Context, Descent, Geometry, Metric
from .sam import SAM
from .variants import FisherMask, RandomDirection, Renormalized, Residual, ReuseOrthogonal, Spectral, SurrogateGap

__all__ = [
    "L2",
    "SAM",
    "Ascent",
    "ClippedDifference",
    "Context",
    "Descent",
    "Elementwise",
    "Ema",
    "FisherMask",
    "FunctionalLoss",
    "Geometry",
    "Gradient",
    "LInf",
    "Layerwise",
    "Masked",
    "Metric",
    "Mix",
    "Momentum",
    "Perturbed",
    "PreviousGradient",
    "RandomDirection",
    "Renormalized",
    "Residual",
    "ReuseOrthogonal",
    "Spectral",
    "StepReport",
    "SurrogateGap",
    "matrices",
    "norm_groups",
]
