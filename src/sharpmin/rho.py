"""The schedules of the radius, for training and for the laboratory; documented in `sharpmin.core.rho`.

>>> from sharpmin.rho import Cosine
>>> Cosine(0.05, steps=1000)
Cosine(rho=0.05, steps=1000)
"""

from .core.rho import (
    Capped,
    Constant,
    Cosine,
    Every,
    Gate,
    InverseSqrt,
    ProportionalToLR,
    Ramp,
    Rho,
    RhoSchedule,
    StepInfo,
    Tail,
    Unnormalized,
    Until,
)

__all__ = [
    "Capped",
    "Constant",
    "Cosine",
    "Every",
    "Gate",
    "InverseSqrt",
    "ProportionalToLR",
    "Ramp",
    "Rho",
    "RhoSchedule",
    "StepInfo",
    "Tail",
    "Unnormalized",
    "Until",
]
