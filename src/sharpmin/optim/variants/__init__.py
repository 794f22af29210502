"""Variants of SAM by paper. A new one is one file here, made from `templates/variant.py`, and one import line below."""

from __future__ import annotations

from ._ae_sam import ae_sam
from ._asam import asam
from ._capped_sam import capped_sam
from ._clipped_sam import clipped_sam
from ._decayed_sam import decayed_sam
from ._every_k_sam import every_k_sam
from ._fisher_sam import FisherMask, fisher_sam
from ._friendly_sam import Residual, friendly_sam
from ._gsam import SurrogateGap, gsam
from ._looksam import ReuseOrthogonal, looksam
from ._momentum_sam import momentum_sam
from ._random_sam import RandomDirection, random_sam
from ._registry import create, variants
from ._s2_sam import s2_sam
from ._sam import sam
from ._spectral_sam import Spectral, spectral_sam
from ._stable_sam import Renormalized, stable_sam
from ._usam import usam
from ._vasso import vasso

__all__ = [
    "FisherMask",
    "RandomDirection",
    "Renormalized",
    "Residual",
    "ReuseOrthogonal",
    "Spectral",
    "SurrogateGap",
    "ae_sam",
    "asam",
    "capped_sam",
    "clipped_sam",
    "create",
    "decayed_sam",
    "every_k_sam",
    "fisher_sam",
    "friendly_sam",
    "gsam",
    "looksam",
    "momentum_sam",
    "random_sam",
    "s2_sam",
    "sam",
    "spectral_sam",
    "stable_sam",
    "usam",
    "variants",
    "vasso",
]
