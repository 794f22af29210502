"""The result of `plan`, and its words, as `print` shows them."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from sharpmin.core.jsonable import jsonable
from sharpmin.core.rho import RhoSchedule
from sharpmin.core.text import WIDTH

from .._simulation.lr import LRSchedule
from .._statements.situation import QUANTITIES
from .advice import Advice

_SHRINKS = {"start": "shrinks with more steps", "radius": "shrinks with rho", "noise": "shrinks with larger batches"}
"""Term -> what makes it smaller."""


@dataclass(frozen=True)
class Plan:
    """The bound for a planned run, its parts and advice; prints as a table.

    Attributes:
        setting: the assumption on f.
        oracle: which gradients a step uses.
        radius: how rho is applied.
        quantity: what `bound` bounds; in words `QUANTITIES[quantity]`.
        step_size: a number, or a schedule called with the step.
        rho: the radius as training and `simulate` take it.
        clip: theta of the clipped difference, or None.
        steps: T.
        bound: on `quantity` after T steps.
        trivial: the bound before the first step: Delta for gaps, 2 beta Delta for squared gradients, R^2 for distances,
            (Delta^(1/2) + rho (beta/2)^(1/2))^2 for the gap at the perturbed point.
        floor: the limit of the bound as steps -> inf.
        terms: the contributions of the start, the radius and the noise to the bound.
        dominant: the largest of them.
        ids: the statement behind the bound, then those that show a floor cannot be avoided.
        vacuous: whether the bound is no better than `trivial`.
        accuracy: the accuracy asked for, or None.
        enough: whether the bound is at most `accuracy`; None without one.
        advice: what to change to reach the accuracy; without one, what makes a vacuous bound smaller than `trivial`.
        note: a remark on this situation.
        instead: if the bound is vacuous, bounds on other quantities that are not, by quantity.
    """

    setting: str
    oracle: str
    radius: str
    quantity: str
    step_size: float | LRSchedule
    rho: RhoSchedule
    clip: float | None
    steps: int
    bound: float
    trivial: float
    floor: float
    terms: dict[str, float]
    dominant: str
    ids: tuple[str, ...]
    vacuous: bool
    accuracy: float | None
    enough: bool | None
    advice: tuple[Advice, ...]
    note: str
    instead: dict[str, float]

    def record(self) -> dict[str, Any]:
        """The plan as JSON-ready values; a schedule prints as its constructor, inf and nan become None."""
        step_size = self.step_size if isinstance(self.step_size, float) else str(self.step_size)
        advice = [asdict(item) for item in self.advice]
        whole: dict[str, Any] = jsonable({**vars(self), "step_size": step_size, "rho": str(self.rho), "advice": advice})
        return whole

    def __repr__(self) -> str:
        given = f"{self.oracle}, {self.setting}, {self.radius} radius, {self.steps} steps"
        return f"<Plan {given}: {self.quantity} <= {self.bound:.4g}{', vacuous' if self.vacuous else ''} ({self.ids[0]})>"

    def __str__(self) -> str:
        return _words(self)


def _words(plan: Plan) -> str:
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
