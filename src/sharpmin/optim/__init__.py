"""The optimizer: `SAM`, the geometries it climbs in, and its variants, each a composition in one short file."""

from ._report import StepReport
from .geometry import L2, Geometry
from .sam import SAM
from .variants import capped_sam, create, sam, usam, variants

__all__ = ["L2", "SAM", "Geometry", "StepReport", "capped_sam", "create", "sam", "usam", "variants"]
