"""The possible verdicts."""

from __future__ import annotations

from enum import Enum


class State(Enum):
    """A verdict; its value is the text of the headline."""

    COLLAPSE = "collapse"
    HOLDS = "rho holds the loss up"
    FREE = "SAM is not what limits the loss"
    HELPS = "SAM speeds the descent up"
    UNDECIDED = "undecided"
    TWO_CYCLE = "two-cycle"
    TRAP = "trap"
    RHO_FLOOR = "rho floor"
    NOISE_FLOOR = "noise floor"
    MIXED = "mixed floor"
