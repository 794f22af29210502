"""`verify`: compare a statement with runs."""

from __future__ import annotations

import difflib
import time
from dataclasses import asdict, dataclass
from typing import Any

from sharpmin.core.jsonable import jsonable

from .cell import Cell
from .theorem import Theorem, registered


@dataclass(frozen=True)
class Verdict:
    """The outcome of one statement's check.

    Attributes:
        id: the id of the statement.
        claim: the claims of the abstract that it makes precise.
        kind: see `Theorem`.
        measured: the measured value of the cell that refutes the statement, or else is closest to refuting it.
        bound: the bound of that cell.
        ratio: measured / bound.
        holds: whether every cell holds.
        vacuous: whether no cell's bound is smaller than its value at T = 0.
        n_cells: the number of cells, each a comparison with a run.
        standard_error: the standard error of `measured`; 0 for a deterministic method.
        relation: how measured must relate to bound.
        instance: that cell in words.
        title: the title of the statement.
        seconds: the wall-clock time of the check.
        quick: whether it ran on fewer functions, seeds and steps.
    """

    id: str
    claim: list[str]
    kind: str
    measured: float
    bound: float
    ratio: float
    holds: bool
    vacuous: bool
    n_cells: int
    standard_error: float
    relation: str
    instance: str
    title: str
    seconds: float
    quick: bool = False

    def __repr__(self) -> str:
        word = "holds" if self.holds else "REFUTED"
        nearest = f"{self.measured:.6g} {self.relation} {self.bound:.6g}"
        return f"<Verdict {self.id}: {word}; {self.n_cells} cells, the closest: {nearest} ({self.instance})>"

    def record(self) -> dict[str, Any]:
        """The verdict as JSON-ready values; numbers that are not finite become None."""
        whole: dict[str, Any] = jsonable(asdict(self))
        return whole


def verify(theorem: str | Theorem, *, quick: bool = False) -> Verdict:
    """Run the statement on its instances and families.

    Args:
        theorem: an id of `theorems()`, or a `Theorem`, such as a mutant that has to be refuted.
        quick: fewer functions, seeds and steps.

    Returns:
        A verdict; a stochastic `<=` cell holds if measured - 4 standard errors <= bound, and so on. By chance a mean is that
        far off with probability 3e-5; a run of all statements has some 20 stochastic cells at an attained bound, so about one
        in a thousand sets of seeds would refute a true statement. The seeds are fixed: a verdict is the same in every run.

    Raises:
        ValueError: for an unknown id; the message names the nearest ones.

    >>> verify("c1", quick=True).holds
    True
    """
    chosen = theorem if isinstance(theorem, Theorem) else find(theorem)
    begin = time.perf_counter()
    cells = list(chosen.check(chosen, quick))
    return judge(chosen, cells, time.perf_counter() - begin, quick=quick)


def find(name: str) -> Theorem:
    """The statement with this id; a `ValueError` with the nearest ids if there is none."""
    known = registered()
    if name not in known:
        near = difflib.get_close_matches(str(name).lower(), known, cutoff=0.3) or list(known)
        raise ValueError(f"no statement {name!r}; nearest: {', '.join(near)}")
    return known[name]


def judge(theorem: Theorem, cells: list[Cell], seconds: float = 0.0, *, quick: bool = False) -> Verdict:
    """The verdict on all cells, with the numbers of the one that fails or has the least room; vacuous ones come last.

    Raises:
        RuntimeError: if there are no cells, since such a check could not fail.
    """
    if not cells:
        raise RuntimeError(f"{theorem.id}: its check yielded no Cell, so nothing was compared; yield at least one")
    failed = [cell for cell in cells if not cell.holds]
    telling = [cell for cell in cells if not cell.vacuous] or cells
    shown = failed[0] if failed else min(telling, key=lambda cell: round(cell.room, 9))
    return Verdict(
        id=theorem.id,
        claim=list(theorem.claims),
        kind=theorem.kind,
        measured=shown.measured,
        bound=shown.bound,
        ratio=shown.ratio,
        holds=not failed,
        vacuous=all(cell.vacuous for cell in cells),
        n_cells=len(cells),
        standard_error=shown.error,
        relation=shown.relation,
        instance=shown.instance,
        title=theorem.title,
        seconds=seconds,
        quick=quick,
    )
