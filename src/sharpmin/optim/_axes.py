"""The choices that make a SAM, checked against each other before anything is built."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypedDict

from torch import Tensor, nn

from ._ascent import Ascent
from ._descent import Descent
from ._effects.buffers import BufferFilter
from ._geometry import Geometry
from ._numeric.shards import any_sharded

SCOPES = ("global", "rank", "microbatch")


def check_shards(geometry: Geometry, ascent: Ascent, parameters: Iterable[Tensor]) -> None:
    """Refuse what needs whole tensors where they are sharded, and shards that do not look like shards.

    Raises:
        ValueError: if it does.
    """
    parameters = list(parameters)
    if any(getattr(p, "_fsdp_flattened", False) for p in parameters):
        raise ValueError(
            "SAM: the parameters are flat shards of FullyShardedDataParallel (FSDP1), plain tensors whose norm over all ranks "
            "cannot be taken; shard with torch.distributed.fsdp.fully_shard (FSDP2)"
        )
    if (geometry.shards and not ascent.stateful) or not any_sharded(parameters):
        return
    if not geometry.shards:
        raise ValueError(
            f"SAM: {geometry!r} needs whole tensors, and the parameters are sharded (DTensor); use L2(), LInf() or "
            "Elementwise()"
        )
    raise ValueError(
        f"SAM: {ascent!r} keeps tensors that torch.distributed.checkpoint would drop for sharded parameters (DTensor); use "
        "Gradient() or Momentum()"
    )


class Options(TypedDict, total=False):
    """The keywords of `SAM` that every variant passes on: all but the parts, which the variant chooses."""

    model: nn.Module | None
    scope: str
    telemetry: bool
    rounding: str
    skip_nonfinite: bool
    buffers: BufferFilter | None


def check_axes(geometry: object, ascent: object, descent: object, scope: str, rounding: str) -> None:
    """Refuse a wrong kind, an unknown name, or parts that do not go together.

    Raises:
        TypeError: if a geometry, ascent or descent is none.
        ValueError: if a scope or rounding is unknown, or the parts exclude each other.
    """
    kinds = [("geometry", geometry, Geometry, "L2()"), ("ascent", ascent, Ascent, "Gradient()")]
    for name, value, kind, example in [*kinds, ("descent", descent, Descent, "Perturbed()")]:
        if not isinstance(value, kind):
            call = f"{value.__name__}()" if isinstance(value, type) and issubclass(value, kind) else f"sharpmin.{example}"
            raise TypeError(f"SAM: {name}={value!r} is no {name} instance; give one, such as {name}={call}")
    for name, choice, known in [("scope", scope, SCOPES), ("rounding", rounding, ("nearest", "stochastic"))]:
        if choice not in known:
            raise ValueError(f"SAM: {name}={choice!r}; {name} must be one of {', '.join(map(repr, known))}")
    if isinstance(ascent, Ascent) and not ascent.needs_clean:
        if isinstance(descent, Descent) and descent.needs_clean:
            raise ValueError(f"SAM: {descent!r} needs the gradient at w, which {ascent!r} does not take; use ascent=Gradient()")
        if scope != "global":
            raise ValueError(f'SAM: scope="{scope}" perturbs by a gradient of its own, and {ascent!r} needs none')
