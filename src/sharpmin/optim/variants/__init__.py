"""Variants of SAM by paper. A new one is one file here, made from `templates/variant.py`, and one import line below."""

from __future__ import annotations

from ._asam import asam
from ._capped_sam import capped_sam
from ._clipped_sam import clipped_sam
from ._decayed_sam import decayed_sam
from ._registry import create, variants
from ._sam import sam
from ._usam import usam

__all__ = ["asam", "capped_sam", "clipped_sam", "create", "decayed_sam", "sam", "usam", "variants"]
