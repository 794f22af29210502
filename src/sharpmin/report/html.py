"""Verdicts, figures and settings as one self-contained HTML page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from sharpmin.theory import CLAIMS, measure_settings
from sharpmin.theory import settings as settings_table
from sharpmin.theory._cells import QUANTITIES

from . import _view
from ._render import render
from ._style import Plate
from .datasets import compute
from .figures import draw

if TYPE_CHECKING:
    from sharpmin.theory import Verdict
    from sharpmin.theory._examine import Examination

OPENING = "trajectories"
"""The figure that is shown before the claims."""


def build(
    verdicts: Sequence[Verdict], *, quick: bool = False, note: str = "", settings: Sequence[_view.Setting] | None = None
) -> str:
    """The whole report: computes figures and settings (a few seconds), draws and renders them.

    Args:
        verdicts: in the order of the tables.
        quick: figures from fewer steps and seeds.
        note: a line on top, such as that the run was interrupted.
        settings: the cells of the settings table, see `page`; by default those of `theory.settings`, with simulations.
    """
    if settings is None:
        settings = settings_table(verdicts, measure_settings(quick=quick))
    return page(verdicts, CLAIMS, note, figures=draw(compute(quick)), settings=settings)


def page(
    verdicts: Sequence[Verdict],
    claims: Mapping[str, str],
    note: str = "",
    figures: Sequence[Plate] | None = None,
    settings: Sequence[_view.Setting] | None = None,
    own: Sequence[Examination] = (),
) -> str:
    """The report as one HTML file that works offline, in light and dark, on wide and narrow screens.

    Args:
        verdicts: in the order of the tables; they are grouped by the claims that they execute.
        claims: P1 ... P7 and what they say.
        note: a line on top, such as that the run was interrupted.
        figures: from `figures.draw`; without them the page is small and costs nothing.
        settings: cells with the attributes of `_view.Setting`; one row an oracle and setting, one column a radius.
        own: problems of one's own, each from `theory.examine`; they get a section of their own.
    """
    shown, plates = _view.pages(verdicts), list(figures or ())
    groups = {claim: [v for v in verdicts if claim in v.claim] for claim in claims}
    home = {v.id: next((c for c in groups if c in v.claim), "") for v in verdicts}
    return render(
        "page.html.j2",
        plates,
        claims=claims,
        groups=groups,
        home=home,
        verdicts=verdicts,
        note=note,
        pages=shown,
        instances=_view.instances(shown),
        opening=[p for p in plates if p.id == OPENING],
        plates={c: [p for p in plates if p.claims[:1] == (c,) and p.id != OPENING] for c in claims},
        elsewhere={c: [p for p in plates if c in p.claims and (p.claims[0] != c or p.id == OPENING)] for c in claims},
        grid=_view.grid(settings or ()),
        own=own,
        quantities=QUANTITIES,
        versions=_view.versions(),
    )
