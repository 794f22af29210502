"""Variants of SAM by paper. A new one is one file here, made from `templates/variant.py`, and one import line below."""

from __future__ import annotations

from ._capped_sam import capped_sam
from ._registry import create, variants
from ._sam import sam
from ._usam import usam

__all__ = ["capped_sam", "create", "sam", "usam", "variants"]
