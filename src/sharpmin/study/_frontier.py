"""Which methods are dominated (another is better at no more passes), and the share of SAM's gain of a cheap variant."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ._estimate import Estimate, ratio
from ._table import Line, paired
from ._trials import Rows

CHEAP = 1.4
"""The most passes, relative to the base, of a variant of SAM that is called cheap."""


@dataclass(frozen=True)
class Place:
    """Whether a method is dominated by another one at equal noise.

    Attributes:
        beaten_by: of those with no more passes and a higher mean accuracy, the one with the highest; None on the frontier.
        by: how much higher, seed by seed.
    """

    beaten_by: str | None = None
    by: Estimate | None = None

    @property
    def word(self) -> str:
        """The place in a word: "frontier", "dominated", or "clearly dominated" if the interval excludes 0."""
        if self.by is None:
            return "frontier"
        return "clearly dominated" if self.by.low > 0 else "dominated"


def places(rows: Rows, lines: Sequence[Line]) -> dict[tuple[str, float], Place]:
    """The place of each of the `lines` that `table` made of the `rows`, by method and noise."""
    found = {}
    for line in lines:
        others = [
            other for other in lines
            if other.noise == line.noise and other.passes <= 1.001 * line.passes and other.accuracy.mean > line.accuracy.mean
        ]  # fmt: skip
        best = max(others, key=lambda other: other.accuracy.mean, default=None)
        place = Place() if best is None else Place(best.method, paired(rows, best.method, line.method, line.noise))
        found[line.method, line.noise] = place
    return found


def best_cheap(lines: Sequence[Line], noise: float) -> Line | None:
    """The SAM with at most `CHEAP` passes and the best accuracy on the validation samples."""
    cheap = [line for line in lines if line.noise == noise and line.rho and line.passes <= CHEAP]
    return max(cheap, key=lambda line: line.validation, default=None)


def share_of_gain(line: Line, sam: Line) -> tuple[float, float, float]:
    """A method's gain over SAM's, with its 95 % interval; (nan, -inf, inf) where SAM's own gain is not clear."""
    both = zip(line.gain.values, sam.gain.values, strict=True)
    known = [(a, b) for a, b in both if a is not None and b is not None]
    return ratio([a for a, _ in known], [b for _, b in known])
