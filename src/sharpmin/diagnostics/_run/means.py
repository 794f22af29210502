"""The means over one block of steps: of the scalars over all steps, of the sketches over sketched steps."""

from __future__ import annotations

import math
from collections.abc import Mapping

from torch import Tensor

from .rows import Row, encode
from .sketch import BUCKETS


class Means:
    """The sums over a block so far."""

    def __init__(self) -> None:
        self._sums: dict[str, float] = {}
        self._counts: dict[str, int] = {}
        self._sketches: dict[str, Tensor] = {}
        self._sketched = 0
        self._ranges: dict[str, tuple[float, float]] = {}

    def step(self, row: Row) -> None:
        """Add the scalars of a step."""
        gg, dg, dd, rho, lr = (float(row[key]) for key in ("gg", "dg", "dd", "rho", "lr"))
        values = {"gg": gg, "dg": dg, "dd": dd, "norm_g": math.sqrt(max(gg, 0.0)), "norm_d": math.sqrt(max(dd, 0.0))}
        if gg > 0 and rho > 0:
            along = float(row.get("along", dg / (rho * math.sqrt(gg))))  # the curvature of the loss along e, which is along g
            values |= {"curvature": along, "bounce": lr * along * (1 + dg / gg)}
        for key in ("loss", "lag", "steep", "momentum", "edge"):
            if row.get(key) is not None:
                values[key] = float(row[key])
        for key, value in values.items():
            self._sums[key] = self._sums.get(key, 0.0) + value
            self._counts[key] = self._counts.get(key, 0) + 1
        for key, value in (("rho", rho), ("lr", lr)):
            low, high = self._ranges.get(key, (value, value))
            self._ranges[key] = min(low, value), max(high, value)

    def sketched(self, found: Mapping[str, Tensor]) -> None:
        """Add the sketches of a step, and the scalars of sketched steps."""
        for key, value in found.items():
            self._sketches[key] = self._sketches[key] + value if key in self._sketches else value
        self._sketched += 1

    def row(self) -> Row | None:
        """The means, with the least and largest rho and lr; None if no step was sketched."""
        if not self._sketched:
            return None
        row: Row = {"n": self._sketched, "steps": self._counts["gg"]}
        row |= {key: total / self._counts[key] for key, total in self._sums.items()}
        row |= {key: list(bounds) for key, bounds in self._ranges.items()}
        for key, total in self._sketches.items():
            mean = total / self._sketched
            row[key] = encode(mean) if mean.numel() == BUCKETS else float(mean)
        return row
