"""Verdicts as one self-contained HTML page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import resources
from typing import TYPE_CHECKING

from sharpmin.core.extras import optional

if TYPE_CHECKING:
    import jinja2

    from sharpmin.theory import Verdict
else:
    jinja2 = optional("jinja2", extra="cli")


def page(verdicts: Sequence[Verdict], claims: Mapping[str, str], note: str = "") -> str:
    """The report: one row a verdict, grouped by the claim that it executes; works offline, in light and dark.

    Args:
        verdicts: in the order of the table.
        claims: P1 ... P7 and what they say.
        note: a line on top, such as that the run was interrupted.
    """
    source = resources.files(__package__).joinpath("templates", "verdicts.html.j2").read_text(encoding="utf-8")
    environment = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined)
    groups = {claim: [v for v in verdicts if claim in v.claim] for claim in claims}
    refuted = [v.id for v in verdicts if not v.holds]
    return environment.from_string(source).render(
        groups=groups, claims=claims, n=len(verdicts), refuted=refuted, note=note, cells=sum(v.n_cells for v in verdicts)
    )
