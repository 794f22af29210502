"""The stretch of a run that a verdict is about, and its statistics: the last blocks at constant rho and learning rate.

With block means g_a, D_a of the gradient and of the difference D = G - g, sums over pairs a != b have no bias from the noise
within a block. Everything below comes from the three Gram matrices of the block sketches, so leaving a block out is cheap.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor

from sharpmin.core.rho import positive_integer

from ._log import Log
from ._rows import Row, decode

LEAST_BLOCKS = 5
MOST_BLOCKS = 40


@dataclass(frozen=True)
class Window:
    """The last blocks of a log with one rho and one learning rate.

    Attributes:
        run: the setting of the run.
        first: number of the first step.
        steps: how many steps.
        rho, lr: their constant values.
        scalars: the blocks' scalar means, step-weighted over the window.
        g, d: the block sketches of the gradient and of the difference, shape (blocks, 256).
        pd, pg: the same divided by Adam's root mean square, if the base is adaptive.
        remarks: what was left out.
    """

    run: Row
    first: int
    steps: int
    rho: float
    lr: float
    scalars: dict[str, float]
    g: Tensor
    d: Tensor
    pd: Tensor | None = None
    pg: Tensor | None = None
    x: Tensor | None = None
    remarks: list[str] = field(default_factory=list)

    @classmethod
    def of(cls, log: Log, blocks: int | None = None) -> Window:
        """The window at the end of a log.

        Args:
            log: the rows.
            blocks: use at most that many of the newest blocks.

        Raises:
            TypeError, ValueError: if `blocks` is no positive integer.
            ValueError: if there are no SAM steps, too few blocks at constant rho and lr, or steps without SAM between them.
        """
        if blocks is not None:
            positive_integer(blocks, "blocks", "diagnose")
        rows, remarks = _usable(log)
        rows = rows[-blocks:] if blocks else rows
        _demand_enough(rows)
        merged = _merged(rows)
        sketches = {key: torch.stack([row[key] for row in merged]) for key in ("g", "d", "pd", "pg", "x") if key in merged[0]}
        rho, lr = rows[-1]["rho"][0], rows[-1]["lr"][0]
        first, steps = int(rows[0]["first"]), int(sum(float(row["steps"]) for row in rows))
        return cls(log.run, first, steps, rho, lr, _means(rows), remarks=remarks, **sketches)

    @cached_property
    def gram(self) -> tuple[Tensor, Tensor, Tensor]:
        """(g g', g D', D D'), each of shape (blocks, blocks)."""
        return self.g @ self.g.T, self.g @ self.d.T, self.d @ self.d.T

    @property
    def blocks(self) -> int:
        """How many."""
        return len(self.g)

    @property
    def effective_lr(self) -> float:
        """The step per unit of gradient: `rate`, or where entries are scaled, that along the mean difference."""
        if self.pd is not None:
            gb, db, pdb = self.g.mean(0), self.d.mean(0), self.pd.mean(0)
            whole = float(gb @ db)
            return self.rate * abs(float(gb @ pdb) / whole) if whole else 0.0
        return self.rate

    @property
    def rate(self) -> float:
        """lr / (1 - momentum)."""
        return self.lr / (1 - float(self.run.get("momentum") or 0.0))


def _usable(log: Log) -> tuple[list[Row], list[str]]:
    """The newest blocks with one rho and one lr, and what was left out."""
    if not log.blocks:
        seen = f"{len(log.steps)} SAM steps, but no whole block of them" if log.steps else "no SAM step"
        raise ValueError(f"diagnose: the log holds {seen}; watch at least {LEAST_BLOCKS} blocks of a run with rho > 0")
    blocks, remarks = list(log.blocks), list(log.remarks)
    sound = [row for row in blocks if _sound(row)]
    if not sound:
        raise ValueError("diagnose: every block has gradients or losses that are not finite: the run has diverged")
    if len(sound) < len(blocks):
        ended = "" if blocks[-1] is sound[-1] else "; the run ended in numbers that are none"
        remarks.append(f"{len(blocks) - len(sound)} blocks with gradients or losses that are not finite are left out{ended}")
    if len(blocks) == log.blocks.maxlen:
        remarks.append(f"only the newest {len(blocks)} blocks are kept in memory")
    rows = _steady(sound)
    if len(rows) < len(sound):
        remarks.append(
            f"the last {len(rows)} of {len(sound)} blocks are used: before them rho or the learning rate was another"
        )
    return rows, remarks


def _sound(row: Row) -> bool:
    return all(math.isfinite(float(row.get(key, 0.0))) for key in ("gg", "dg", "dd", "loss"))


def _steady(blocks: Sequence[Row]) -> list[Row]:
    """The newest blocks at constant rho and lr: each within itself, and with the one after it."""
    rows: list[Row] = []
    for row in reversed(blocks):
        after = rows[0] if rows else row
        if not all(_same(*row[key]) and _same(row[key][0], after[key][0]) for key in ("rho", "lr")):
            break
        rows.insert(0, row)
    return rows


def _demand_enough(rows: Sequence[Row]) -> None:
    """Refuse too few blocks, and such as steps without SAM lie between."""
    if len(rows) < LEAST_BLOCKS:
        raise ValueError(
            f"diagnose: {len(rows)} block{'s' if len(rows) != 1 else ''} at constant rho and lr at the end of the run, and "
            f"at least {LEAST_BLOCKS} are needed; hold both constant for longer, or watch in smaller blocks: "
            "watch(..., block=...)"
        )
    taken, passed = sum(int(row["steps"]) for row in rows), sum(1 + int(row["last"]) - int(row["first"]) for row in rows)
    if passed > 1.5 * taken:
        raise ValueError(
            f"diagnose: SAM took {taken} of the last {passed} steps, and the plain ones between them are not watched; a "
            "verdict needs SAM in every step of its window"
        )


def _means(rows: Sequence[Row]) -> dict[str, float]:
    """Every scalar of the blocks, averaged by steps over those that have it."""
    means = {}
    for key in sorted({key for row in rows for key, value in row.items() if isinstance(value, float)}):
        known = [(float(row[key]), float(row["steps"])) for row in rows if key in row]
        means[key] = math.fsum(value * steps for value, steps in known) / math.fsum(steps for _, steps in known)
    return means


def _same(a: float, b: float) -> bool:
    return math.isclose(a, b, rel_tol=1e-6)


def _merged(rows: Sequence[Row]) -> list[dict[str, Tensor]]:
    """At most `MOST_BLOCKS` blocks of neighbouring ones, their sketches averaged by sketched steps."""
    size = -(-len(rows) // MOST_BLOCKS)
    out = []
    for at in range(0, len(rows), size):
        group = rows[at : at + size]
        total = math.fsum(float(row["n"]) for row in group)
        out.append(
            {
                key: sum((decode(row[key]) * (row["n"] / total) for row in group), torch.zeros((), device="cpu"))
                for key in ("g", "d", "pd", "pg", "x")
                if all(key in row for row in group)
            }
        )
    return out
