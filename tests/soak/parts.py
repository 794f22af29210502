"""The parts of `sharpmin` under the names that a case has for them."""

from typing import Any

import torch

import sharpmin as sm
from sharpmin.optim import matrices

from . import by_hand as hand
from .norms import ETA, KEEP


def large(w: torch.Tensor) -> torch.Tensor:
    return w.abs() > 0.25


GEOMETRIES = {
    "l2": sm.L2(),
    "linf": sm.LInf(),
    "elementwise": sm.Elementwise(ETA),
    "elementwise-matrices": sm.Elementwise(ETA, adapt=matrices),
    "layerwise": sm.Layerwise(ETA),
    "masked": sm.Masked(large),
    "masked-linf": sm.Masked(matrices, sm.LInf()),
    "spectral": sm.Spectral(),
    "spectral-products": sm.Spectral("newton-schulz"),
    "fisher": sm.FisherMask(KEEP),
}
ASCENTS = {
    "gradient": sm.Gradient(),
    "ema": sm.Ema(hand.THETA),
    "residual": sm.Residual(hand.SIGMA, hand.DECAY),
    "momentum": sm.Momentum(),
    "random": sm.RandomDirection(),
}
DESCENTS = {
    "perturbed": sm.Perturbed(),
    "mix": sm.Mix(hand.MIX),
    "clipped": sm.ClippedDifference(hand.CLIP),
    "surrogate-gap": sm.SurrogateGap(hand.ALPHA),
    "renormalized": sm.Renormalized(),
    "reuse": sm.ReuseOrthogonal(hand.ALPHA),
}


def rho(kind: str, size: float) -> Any:
    """What `group["rho"]` is for a kind."""
    found = {
        "number": size,
        "zero": 0.0,
        "constant": sm.rho.Constant(size),
        "cosine": sm.rho.Cosine(size, steps=hand.COSINE),
        "inverse-sqrt": sm.rho.InverseSqrt(size),
        "every": sm.rho.Every(size, hand.EVERY),
        "tail": sm.rho.Tail(size, start=hand.TAIL),
        "until": sm.rho.Until(size, stop=hand.UNTIL),
        "follows-lr": sm.rho.ProportionalToLR(size, lr=hand.LR, power=0.5),
        "unnormalized": sm.rho.Unnormalized(hand.UNNORMALIZED),
        "capped": sm.rho.Capped(size, c=hand.CAP),
    }
    return found[kind]
