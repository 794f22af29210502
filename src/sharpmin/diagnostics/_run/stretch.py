"""The newest blocks of a log that are alike, merged and converted to the present rho."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from sharpmin.core.rho import positive_integer

from .log import Log
from .rows import SKETCHES, Row, decode

LEAST_BLOCKS = 5
MOST_BLOCKS = 40
FACTOR = 1.5
"""The factor by which rho, the learning rate and the loss may change within a window of more than the least blocks."""


_SCALE = 1000.0
"""A factor between the two gradients above which one of them must be scaled by a GradScaler."""


@dataclass(frozen=True)
class Block:
    """The means over a stretch of steps, converted to the present rho.

    Attributes:
        steps: the number of SAM steps; `sketched`: of steps with sketches; `passed`: of all steps of the run.
        rho: their radius.
        scalars: their mean scalars.
        sketches: their mean sketches, shape (256,) each.
    """

    steps: float
    sketched: float
    passed: float
    rho: float
    scalars: dict[str, float]
    sketches: dict[str, Tensor]


@dataclass(frozen=True)
class Stretch:
    """The newest blocks that are alike, and rho and lr at their end."""

    parts: list[Block]
    first: int
    last: int
    rho: float
    lr: float
    remarks: list[str]


def stretch(log: Log, most: int | None = None) -> Stretch:
    """The newest blocks of a log that are alike, at most `most`.

    Raises:
        TypeError, ValueError: if `most` is no positive integer.
        ValueError: if there are no SAM steps, or too few blocks.
    """
    if most is not None:
        positive_integer(most, "blocks", "diagnose")
    rows, remarks = _sound(log)
    if len(rows) < LEAST_BLOCKS:
        raise ValueError(
            f"diagnose: {len(rows)} block{'s' if len(rows) != 1 else ''} of steps, at least {LEAST_BLOCKS} are needed; go on, "
            "or watch in smaller blocks: watch(..., block=...)"
        )
    rho, lr = _present(rows, "rho"), _present(rows, "lr")
    kept = _alike(rows, most)
    if len(kept) < len(rows) and most is None:
        moved = " and ".join(_moved(rows[-len(kept) - 1 :]))
        verb = "were others" if " and " in moved else "was another"
        remarks.append(f"the last {len(kept)} of {len(rows)} blocks are used: before them {moved} {verb}")
    size = -(-len(kept) // MOST_BLOCKS)
    blocks = [_merged([_block(row, rho) for row in kept[at : at + size]]) for at in range(0, len(kept), size)]
    return Stretch(blocks, int(kept[0]["first"]), int(kept[-1]["last"]), rho, lr, remarks)


def _sound(log: Log) -> tuple[list[Row], list[str]]:
    """The blocks whose numbers are finite, and remarks on the others."""
    if not log.blocks:
        seen = f"{len(log.steps)} SAM steps, but no whole block of them" if log.steps else "no SAM step"
        earlier = f" ({log.remarks[-1]})" if log.remarks else ""
        raise ValueError(f"diagnose: the log holds {seen}; watch at least {LEAST_BLOCKS} blocks of a run with rho > 0{earlier}")
    blocks, remarks = list(log.blocks), list(log.remarks)
    sound = [row for row in blocks if all(math.isfinite(float(row.get(key, 0.0))) for key in ("gg", "dg", "dd", "loss"))]
    if not sound:
        raise ValueError("diagnose: every block has gradients or losses that are not finite: the run has diverged")
    if len(sound) < len(blocks):
        ended = "" if blocks[-1] is sound[-1] else "; the run ended in numbers that are none"
        remarks.append(f"{len(blocks) - len(sound)} blocks with gradients or losses that are not finite are left out{ended}")
    whole = [row for row in sound if not _scaled(row)]
    if not whole:
        raise ValueError(
            "diagnose: one of the two gradients is more than a thousand times the other, in one direction: one is scaled by a "
            "GradScaler; call scaler.unscale_(optimizer) before both probe.clean() and probe.perturbed(), or before neither"
        )
    if len(whole) < len(sound):
        remarks.append(f"{len(sound) - len(whole)} blocks in which one gradient is scaled and the other is not are left out")
        sound = whole
    if len(blocks) == log.blocks.maxlen:
        remarks.append(f"only the newest {len(blocks)} blocks are kept in memory")
    return sound, remarks


def _scaled(row: Row) -> bool:
    """Whether G is nearly a very large or small multiple of g, as if only one of them were scaled by a GradScaler."""
    gg, dg, dd = (float(row[key]) for key in ("gg", "dg", "dd"))
    perturbed = max(0.0, gg + 2 * dg + dd)
    apart = perturbed > _SCALE**2 * gg or gg > _SCALE**2 * perturbed
    return apart and gg + dg > 0.9 * math.sqrt(gg * perturbed) > 0


def _middle(row: Row, key: str) -> float:
    low, high = map(float, row[key])
    return (low + high) / 2


def _present(rows: Sequence[Row], key: str) -> float:
    """The value at the end of the log: the lower bound of the last block if the value falls, else the upper one."""
    low, high = rows[-1][key]
    falls = _middle(rows[-1], key) < _middle(rows[-2], key)
    return float(low if falls else high)


_MOVES: Mapping[str, Callable[[Row], float]] = {
    "rho": lambda row: _middle(row, "rho"),
    "the learning rate": lambda row: _middle(row, "lr"),
    "the loss": lambda row: max(0.0, float(row.get("loss") or 0.0)),
}


def _alike(rows: Sequence[Row], most: int | None) -> list[Row]:
    """The newest blocks within which rho, lr and loss changed by at most `FACTOR`; at least `LEAST_BLOCKS`."""
    kept = list(rows[-LEAST_BLOCKS:] if most is None else rows[-min(LEAST_BLOCKS, most) :])
    for row in reversed(rows[-most if most else 0 : -len(kept)]):
        if _moved([row, *kept]):
            break
        kept.insert(0, row)
    return kept


def _moved(rows: Sequence[Row]) -> list[str]:
    """The names of what changed by more than `FACTOR` within these blocks."""
    values = {name: [of(row) for row in rows] for name, of in _MOVES.items()}
    return [name for name, found in values.items() if max(found) > FACTOR * min(found)]


def _block(row: Row, rho: float) -> Block:
    """A row converted to this radius: to first order D is proportional to rho."""
    own = _middle(row, "rho")
    times = 1.0 if not own > 0 or math.isclose(own, rho, rel_tol=1e-6) else rho / own
    powers = {"dg": 1, "norm_d": 1, "dd": 2}
    scalars = {key: value * times ** powers.get(key, 0) for key, value in row.items() if isinstance(value, float)}
    sketches = {key: decode(row[key]) * (times if key in ("d", "pd") else 1.0) for key in SKETCHES if key in row}
    steps, span = float(row["steps"]), float(row["last"] - row["first"])
    passed = span * steps / (steps - 1) if steps > 1 else 1.0  # the steps between SAM's steps have no rows
    return Block(steps, float(row["n"]), passed, own, scalars, sketches)


def _merged(blocks: Sequence[Block]) -> Block:
    """Merge neighboring blocks: scalars weighted by steps, sketches by sketched steps."""
    steps, sketched, passed = (math.fsum(getattr(b, key) for b in blocks) for key in ("steps", "sketched", "passed"))
    scalars = {}
    for key in {key for b in blocks for key in b.scalars}:
        known = [(b.scalars[key], b.steps) for b in blocks if key in b.scalars]
        scalars[key] = weighted(known)
    common = [key for key in SKETCHES if all(key in b.sketches for b in blocks)]
    sketches = {key: torch.stack([b.sketches[key] * (b.sketched / sketched) for b in blocks]).sum(0) for key in common}
    return Block(steps, sketched, passed, weighted([(b.rho, b.steps) for b in blocks]), scalars, sketches)


def weighted(values: Sequence[tuple[float, float]]) -> float:
    """The mean of values with their weights.

    >>> weighted([(1.0, 1.0), (4.0, 2.0)])
    3.0
    """
    return math.fsum(value * weight for value, weight in values) / math.fsum(weight for _, weight in values)
