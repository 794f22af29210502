"""Radii and norms where floats are short, tiny, huge or many: the length of e is rho whatever the gradient is."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .._case import family, require
from .._trial import Trial, copies, give, near, show


def climb(t: Trial, weights: list[nn.Parameter], gradients: list[Tensor], rho: float) -> list[Tensor]:
    """The weights at which the second pass runs, for given gradients."""
    seen: list[Tensor] = []

    def run(k: int) -> Tensor:
        if k == 2:
            seen.extend(copies(weights))
        give(dict(zip(weights, (g.clone() for g in gradients), strict=True)))
        return torch.zeros(())

    t.step(t.make(weights, rho, lr=0.0), run)
    require(len(seen) == len(weights), "no second pass", "a second pass at w + e")
    return seen


@family(
    "fp16-norm",
    "A norm beyond the range of float16",
    right="||e|| = 0.5 +- 5 %",
    fix="take norms of float16 gradients in float32, and keep rho / norm out of float16",
    faults=(11,),
)
def fp16_norm(t: Trial) -> str:
    """100 gradients of 3e4 have the norm 3e5; float16 ends at 65504."""
    w = nn.Parameter(torch.ones(100, dtype=torch.float16))
    (at,) = climb(t, [w], [torch.full((100,), 3e4, dtype=torch.float16)], 0.5)
    length = (at.double() - 1.0).norm()
    require(near(length, (0.5,), 0.025), f"||e|| = {show(length)}")
    return f"||e|| = {show(length)}"


def _four(t: Trial, gradient: float) -> str:
    w = nn.Parameter(torch.ones(4))
    (at,) = climb(t, [w], [torch.full((4,), gradient)], 0.5)
    length = (at.double() - 1.0).norm()
    require(near(length, (0.5,), 1e-5), f"||e|| = {show(length)}")
    return f"||e|| = {show(length)}"


@family(
    "tiny-gradients",
    "float32 gradients of 1e-25, whose squares underflow",
    right="||e|| = 0.5",
    fix="add no constant to the norm, and square in float64 where a float32 norm comes out as 0",
    faults=(10, 11),
)
def tiny_gradients(t: Trial) -> str:
    """The direction does not depend on the length of the gradient."""
    return _four(t, 1e-25)


@family(
    "huge-gradients",
    "float32 gradients of 1e25, whose squares overflow",
    right="||e|| = 0.5",
    fix="square in float64 where a float32 norm comes out infinite",
    faults=(11,),
)
def huge_gradients(t: Trial) -> str:
    """The direction does not depend on the length of the gradient."""
    return _four(t, 1e25)


@family(
    "large-tensor",
    "The norm of ten million equal entries",
    right="||e|| = rho within 1e-4",
    fix="sum squares in pieces, and the pieces in float64",
    faults=(11,),
)
def large_tensor(t: Trial) -> str:
    """Every entry moves by 1 if rho is the root of their number."""
    n = 10_000_000
    w = nn.Parameter(torch.zeros(n))
    (at,) = climb(t, [w], [torch.full((n,), 0.1)], n**0.5)
    moved = at[::1000].double().mean()
    require(near(moved, (1.0,), 1e-4), f"||e|| = {show(moved)} rho")
    return f"||e|| = {show(moved)} rho"


@family(
    "mixed-dtypes",
    "float64, float32, bfloat16 and float16 share one norm",
    right="every weight at 1.5 +- 0.001",
    fix="bring the norms of all tensors to one wide dtype before they are added",
    faults=(11, 20),
)
def mixed_dtypes(t: Trial) -> str:
    """Four gradients of 2 have the norm 4; rho = 1."""
    kinds = (torch.float64, torch.float32, torch.bfloat16, torch.float16)
    weights = [nn.Parameter(torch.ones(1, dtype=kind)) for kind in kinds]
    at = climb(t, weights, [torch.full_like(w, 2.0).detach() for w in weights], 1.0)
    require(all(near(w, (1.5,), 1e-3) for w in at), f"at {show(at)}")
    return f"at {show(at)}"
