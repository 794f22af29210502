"""Verdicts, figures and settings as one self-contained HTML page."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, TypeVar

from sharpmin.theory import CLAIMS, measure_settings
from sharpmin.theory import settings as settings_table
from sharpmin.theory._statements.situation import QUANTITIES

from . import _view
from ._render import render
from ._style import Plate
from .datasets import compute
from .figures import draw

if TYPE_CHECKING:
    from sharpmin.theory import Verdict
    from sharpmin.theory._examine.examine import Examination

T = TypeVar("T")
OPENING = "trajectories"
"""The id of the figure that is shown before the claims."""


def build(
    verdicts: Sequence[Verdict], *, quick: bool = False, note: str = "", settings: Sequence[_view.SettingView] | None = None
) -> str:
    """The whole report as HTML: computes figures and settings (a few seconds) and renders them.

    Args:
        verdicts: in the order of the tables.
        quick: fewer steps and seeds for the figures.
        note: a line on top, such as that the run was interrupted.
        settings: the cells of the settings table, see `page`; by default those of `theory.settings`, with simulations.
    """
    figures, cells = parts(verdicts, quick=quick, settings=settings)
    return page(verdicts, CLAIMS, note, figures=figures, settings=cells)


def parts(
    verdicts: Sequence[Verdict], *, quick: bool = False, settings: Sequence[_view.SettingView] | None = None
) -> tuple[tuple[Plate, ...], Sequence[_view.SettingView]]:
    """Figures and settings of a report, as `build` computes them.

    Args:
        verdicts: the verdicts on the statements, which the settings table shows.
        quick: fewer functions, seeds and steps.
        settings: the cells of the table, if they are already computed.
    """
    if settings is None:
        settings = settings_table(verdicts, measure_settings(quick=quick))
    return draw(compute(quick)), settings


def page(
    verdicts: Sequence[Verdict],
    claims: Mapping[str, str],
    note: str = "",
    figures: Sequence[Plate] | None = None,
    settings: Sequence[_view.SettingView] | None = None,
    own: Sequence[Examination] = (),
) -> str:
    """The report as one HTML file that works offline, in light and dark, on wide and narrow screens.

    Args:
        verdicts: in the order of the tables; they are grouped by their claims.
        claims: the text of each claim P1 ... P7.
        note: a line on top, such as that the run was interrupted.
        figures: from `figures.draw`; without them the page is small and quick to make.
        settings: cells with the attributes of `_view.SettingView`; one row per oracle and setting, one column per radius.
        own: the user's problems, each a result of `theory.examine`, shown in a section of their own.
    """
    shown, plates = _view.pages(verdicts), list(figures or ())
    home = {v.id: next((c for c in claims if c in v.claim), "") for v in verdicts}
    return render(
        "page.html.j2",
        plates,
        claims=claims,
        groups=_by_claim(claims, verdicts, lambda v, claim: claim in v.claim),
        home=home,
        verdicts=verdicts,
        note=note,
        pages=shown,
        instances=_view.instances(shown),
        opening=[p for p in plates if p.id == OPENING],
        plates=_by_claim(claims, plates, lambda p, claim: _home(p) == claim),
        elsewhere=_by_claim(claims, plates, lambda p, claim: claim in p.claims and _home(p) != claim),
        grid=_view.grid(settings or ()),
        own=own,
        quantities=QUANTITIES,
        versions=_view.versions(),
    )


def _by_claim(claims: Iterable[str], items: Sequence[T], belongs: Callable[[T, str], bool]) -> dict[str, list[T]]:
    return {claim: [item for item in items if belongs(item, claim)] for claim in claims}


def _home(plate: Plate) -> str:
    """The claim under which a figure is shown: its first; empty for the figure that is shown before the claims."""
    return "" if plate.id == OPENING else next(iter(plate.claims), "")
