"""A plan in words, as `print` shows it."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from typing import TYPE_CHECKING

from sharpmin.core.text import WIDTH

from .._statements.situation import QUANTITIES

if TYPE_CHECKING:
    from .plan import Plan

_SHRINKS = {"start": "shrinks with more steps", "radius": "shrinks with rho", "noise": "shrinks with larger batches"}
"""Term -> what makes it smaller."""


def words(plan: Plan) -> str:
    """The plan, a line for each of its numbers and each advice."""
    lines = [f"{plan.oracle}, {plan.setting}, {plan.radius} radius, {plan.steps} steps"]
    for name, text in _rows(plan):
        lines += textwrap.wrap(f"  {name:<9}  {text}", WIDTH, subsequent_indent=" " * 13, break_on_hyphens=False)
    target = "to reach it" if plan.accuracy is not None else "to say something"
    advice = [f"{item.text}; the bound is then {item.bound:.4g} ({item.id})" for item in plan.advice]
    if not advice and (plan.vacuous or plan.enough is False):
        advice = ["these bounds know of no change that is enough"]
    for text in advice:
        lines += textwrap.wrap(f"  {target}: {text}", WIDTH, subsequent_indent="    ", break_on_hyphens=False)
    return "\n".join(lines)


def _rows(plan: Plan) -> Iterator[tuple[str, str]]:
    yield "step size", f"{plan.step_size:.4g}" if isinstance(plan.step_size, float) else str(plan.step_size)
    yield "rho", f"{plan.rho}" + (f", difference clipped at {plan.clip:g} ||g||" if plan.clip is not None else "")
    yield "bound", f"{_quantity(plan, plan.quantity)} <= {plan.bound:.4g}  ({plan.ids[0]})"
    parts = ", ".join(f"{name} {value:.4g}" for name, value in plan.terms.items())
    yield "its parts", f"{parts}; the largest, {plan.dominant}, {_SHRINKS[plan.dominant]}"
    stays = f"{plan.floor:.4g} is left of the bound" if plan.floor else "nothing is left of the bound"
    *others, last = plan.ids[1:] or ("",)
    known = f"{', '.join(others)} and {last} show" if others else f"{last} shows"
    yield "floor", f"{stays} as steps -> inf" + (f"; {known} that a floor is unavoidable" if last else "")
    if plan.vacuous:
        yield "vacuous", f"the bound says nothing: {plan.trivial:.4g} is known before the first step"
    for quantity, bound in plan.instead.items():
        yield "instead", f"the bound of quantity={quantity!r} is not vacuous: {_quantity(plan, quantity)} <= {bound:.4g}"
    if plan.note:
        yield "note", plan.note
    if plan.accuracy is not None:
        yield "accuracy", f"the bound {'reaches' if plan.enough else 'does not reach'} {plan.accuracy:g}"


def _quantity(plan: Plan, quantity: str) -> str:
    text = QUANTITIES[quantity]
    return text.replace("E ", "") if plan.oracle == "exact" else text
