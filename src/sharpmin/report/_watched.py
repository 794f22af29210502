"""The data of the figures of a diagnosis: the rows of a watched run as curves over its steps.

Long curves are thinned by means over neighbors; values that are missing or not finite are left out.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sharpmin.diagnostics import Diagnosis, Log, Numbers, Window
from sharpmin.diagnostics._run.scalars import BLOCK, STEP, scalar
from sharpmin.diagnostics._run.stretch import LEAST_BLOCKS

MOST_POINTS = 1200
MOST_WINDOWS = 60
MOST_CHANGES = 4

Row = Mapping[str, Any]


@dataclass(frozen=True)
class BlockCurve:
    """y over steps.

    Attributes:
        x, y: the points.
        each: the number of values of which each point is the mean.
    """

    x: tuple[float, ...]
    y: tuple[float, ...]
    each: int = 1

    def __bool__(self) -> bool:
        return bool(self.x)


@dataclass(frozen=True)
class Share:
    """kappa of one running window that ends at step `x`, with its interval; None if it is not determined.

    >>> Share(10.0, 0.5, (0.2, 0.8)).clear, Share(10.0, 22.0, (-40.0, 84.0)).clear
    (True, False)
    """

    x: float
    value: float | None
    interval: tuple[float, float] | None

    @property
    def clear(self) -> bool:
        """Whether the interval is narrower than 2, twice the distance from 0 (no effect) to 1 (all of the gradient)."""
        return self.value is not None and self.interval is not None and self.interval[1] - self.interval[0] < 2


@dataclass(frozen=True)
class Watched:
    """The curves of a run.

    Attributes:
        steps: by name, over single steps: loss, cosine, lag, reach and more; see `diagnostics._run.scalars`.
        blocks: by name, over blocks: loss, curvature, smoothness, bounce.
        shares: kappa of running windows of `width` blocks.
        width: the number of blocks in a running window.
        span: first and last step of the window that the verdict is about.
        changes: steps where rho or the learning rate changed, with a description; empty if they change all the time.
    """

    steps: Mapping[str, BlockCurve]
    blocks: Mapping[str, BlockCurve]
    shares: tuple[Share, ...]
    width: int
    span: tuple[float, float]
    changes: tuple[tuple[float, str], ...]


def watched(diagnosis: Diagnosis, log: Log) -> Watched:
    """The curves of the run that `diagnosis` is about."""
    rows = [row for row in log.steps if math.isfinite(scalar(row, lambda r: r["step"]))]
    blocks = [row for row in log.blocks if math.isfinite(scalar(row, lambda r: int(r["first"]) + int(r["last"])))]
    at = [int(row["step"]) for row in rows]
    ends = [int(row["last"]) for row in blocks]
    middles = [(int(row["first"]) + end) / 2 for row, end in zip(blocks, ends, strict=True)]
    width = 10 if len(blocks) >= 15 else LEAST_BLOCKS
    return Watched(
        {name: curve(at, [scalar(row, of) for row in rows]) for name, of in STEP.items()},
        {name: curve(middles, [scalar(row, of) for row in blocks]) for name, of in BLOCK.items()},
        shares(log, blocks, ends, width),
        width,
        (diagnosis.window.first, ends[-1]),
        changes(rows, at),
    )


def curve(x: Sequence[float], y: Sequence[float]) -> BlockCurve:
    """The finite points; if there are more than `MOST_POINTS`, neighbors are averaged.

    >>> curve([0, 1, 2], [1.0, float("nan"), 3.0])
    BlockCurve(x=(0, 2), y=(1.0, 3.0), each=1)
    """
    points = [(a, b) for a, b in zip(x, y, strict=True) if math.isfinite(b)]
    size = max(1, -(-len(points) // MOST_POINTS))
    if size == 1:
        return BlockCurve(tuple(a for a, _ in points), tuple(b for _, b in points))
    parts = [points[i : i + size] for i in range(0, len(points), size)]
    return BlockCurve(
        tuple(math.fsum(a for a, _ in part) / len(part) for part in parts),
        tuple(math.fsum(b for _, b in part) / len(part) for part in parts),
        size,
    )


def shares(log: Log, blocks: Sequence[Row], ends: Sequence[float], width: int) -> tuple[Share, ...]:
    """kappa of the `width` blocks up to each of at most `MOST_WINDOWS` blocks, or fewer after rho or lr has changed."""
    stride = max(1, -(-(len(blocks) - LEAST_BLOCKS + 1) // MOST_WINDOWS))
    out = []
    for last in sorted(range(len(blocks), LEAST_BLOCKS - 1, -stride)):
        part = Log()
        part.run = log.run
        part.blocks.extend(dict(row) for row in blocks[max(0, last - width) : last])
        try:
            n = Numbers.of(Window.of(part))
            out.append(Share(ends[last - 1], n.cancelled, n.cancelled_interval))
        except ValueError:  # rho or the learning rate has just changed
            out.append(Share(ends[last - 1], None, None))
    return tuple(out)


def changes(rows: Sequence[Row], at: Sequence[float]) -> tuple[tuple[float, str], ...]:
    """The steps at which rho or the learning rate differs from the step before."""
    found: dict[float, list[str]] = {}
    for sign, name in (("ρ", "rho"), ("lr", "lr")):
        values = [scalar(row, STEP[name]) for row in rows]
        for x, old, new in zip(at[1:], values, values[1:], strict=False):
            if math.isfinite(old + new) and not math.isclose(old, new, rel_tol=1e-6):
                found.setdefault(x, []).append(f"{sign} {old:.3g} → {new:.3g}")
    return tuple((x, ", ".join(told)) for x, told in sorted(found.items())) if len(found) <= MOST_CHANGES else ()
