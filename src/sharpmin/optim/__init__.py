"""The optimizer: `SAM` and the geometries it climbs in; `variants/` holds the named compositions, one short file each."""

from ._report import StepReport
from .geometry import L2, Geometry
from .sam import SAM

__all__ = ["L2", "SAM", "Geometry", "StepReport"]
