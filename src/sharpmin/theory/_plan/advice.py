"""What to change to reach an accuracy: each change with the number that follows from the same bounds."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from .._statements.atlas import atlas
from .._statements.theorem import Theorem, registered
from .evaluate import Evaluated, Inputs, attempt, evaluate, floor, outcomes, rule_of

MOST_STEPS = 10**15  # changes that need more steps are not offered


@dataclass(frozen=True)
class Advice:
    """One change, and the bound after it.

    Attributes:
        change: "rho", "steps", "rho and steps", "switch", "radius" or "oracle".
        rho: the radius after the change; the strength of USAM for radius "unnormalized".
        steps: the horizon after the change.
        radius: the radius rule after the change.
        oracle: the oracle after the change.
        bound: the bound after the change.
        id: the statement behind that bound.
        text: the advice in one line.
        switch: the step from which on rho is 0, for change "switch"; else None.
    """

    change: str
    rho: float
    steps: int
    radius: str
    oracle: str
    bound: float
    id: str
    text: str
    switch: int | None = None


def advise(inputs: Inputs, target: float) -> tuple[Advice, ...]:
    """Changes that bring the bound to `target` or below.

    Another oracle or radius is offered only if the same quantity is bounded and fewer steps are needed.
    """
    here = evaluate(inputs)
    wanted = replace(inputs, quantity=here.rule.quantity)
    staying = list(_staying(wanted, target))
    most = min((item.steps - 1 for item in staying if item.change != "rho"), default=MOST_STEPS)
    others = sorted(_others(wanted, target, most), key=lambda item: item.steps)
    return (*staying, *_late_switch(wanted, target), *others)


def _staying(inputs: Inputs, target: float) -> Iterator[Advice]:
    """A smaller rho, more steps, or both where neither is enough."""
    rho = _largest_rho(inputs, target)
    if rho is not None:
        smaller = replace(inputs, rho=rho)
        times = f", {inputs.rho / rho:.3g} times smaller" if rho else ""
        yield _advice("rho", smaller, f"rho = {rho:.4g}{times}, at the same number of steps")
    steps = _fewest_steps(inputs, target)
    if steps is not None:
        yield _advice("steps", replace(inputs, steps=steps), f"{steps} steps at the same rho")
    stays = floor(inputs, outcomes(inputs))
    if rho is None and steps is None and stays > 0:
        both = _rho_then_steps(inputs, target)
        if both is not None:
            text = f"rho = {both.rho:.4g} and {both.steps} steps; rho = 0 alone is not enough, steps alone leave {stays:.4g}"
            yield _advice("rho and steps", both, text)


def _others(inputs: Inputs, target: float, most: int) -> Iterator[Advice]:
    """Another radius or oracle that reaches the target in at most `most` steps."""
    for change, other, words in _alternatives(inputs):
        try:
            fewest = _fewest_steps(other, target, most)
        except ValueError:
            continue  # no statement about this quantity there
        if fewest is not None:
            horizon = "the same number of" if fewest == inputs.steps else str(fewest)
            yield _advice(change, replace(other, steps=fewest), f"{words}: {horizon} steps")


def _alternatives(inputs: Inputs) -> Iterator[tuple[str, Inputs, str]]:
    """Inputs with another radius or the other oracle, with the default c and clip; the step size is chosen anew."""
    plain = replace(inputs, lr=None, c=None, clip=None)
    half = 1 / (2 * inputs.beta)
    others = (
        ("decaying", replace(plain, radius="decaying"), "rho decaying from the same start"),
        ("capped", replace(plain, radius="capped", c=half), f"rho capped at {half:.4g} ||g||"),
        ("clipped", replace(plain, radius="clipped", clip=0.5), "the difference of the gradients clipped at 0.5 ||g||"),
        ("unnormalized", replace(plain, radius="unnormalized", rho=half), f"no normalization, rho = {half:.4g}"),
    )
    for name, other, words in others:
        if name != inputs.radius:
            yield "radius", other, words
    if inputs.oracle == "m-sam":
        yield "oracle", replace(plain, oracle="n-sam", radius=inputs.radius, c=inputs.c, clip=inputs.clip), "n-SAM"


def _late_switch(inputs: Inputs, target: float) -> Iterator[Advice]:
    """Advice on the latest step at which rho may become 0, if a statement about such a switch bounds this quantity."""
    for name in atlas()[inputs.oracle, inputs.setting, inputs.radius].switches:
        theorem = registered()[name]
        if rule_of(theorem).quantity != inputs.quantity or _switched(theorem, inputs, 1).bound > target:
            continue
        switch = _latest_switch(theorem, inputs, target)
        then = _switched(theorem, inputs, switch)
        step_size = f"{then.lr:.4g}" if isinstance(then.lr, float) else then.lr
        text = f"rho = 0 from step {switch} on, with lr = {step_size}, at the same number of steps"
        yield Advice("switch", inputs.rho, inputs.steps, inputs.radius, inputs.oracle, then.bound, name, text, switch)


def _switched(theorem: Theorem, inputs: Inputs, switch: int) -> Evaluated:
    return attempt(theorem, replace(inputs, switch=switch))


def _latest_switch(theorem: Theorem, inputs: Inputs, target: float) -> int:
    """The last step from which on rho = 0 still reaches the target; a switch at step 1 must reach it."""

    def is_last(switch: int) -> bool:
        return switch >= inputs.steps or _switched(theorem, inputs, switch + 1).bound > target

    return _first(is_last, 1) or 1


def _advice(change: str, after: Inputs, text: str) -> Advice:
    outcome = evaluate(after)
    return Advice(change, after.rho, after.steps, after.radius, after.oracle, outcome.bound, outcome.theorem.id, text)


def _reaches(inputs: Inputs, target: float) -> bool:
    return evaluate(inputs).bound <= target


def _largest_rho(inputs: Inputs, target: float) -> float | None:
    """The largest rho below the given one that reaches the target, to 1e-6; None if rho = 0 does not reach it."""
    if not _reaches(replace(inputs, rho=0.0), target):
        return None
    low, high = 0.0, inputs.rho
    for _ in range(60):
        middle = (low + high) / 2 if low == 0.0 else math.sqrt(low * high)
        low, high = (middle, high) if _reaches(replace(inputs, rho=middle), target) else (low, middle)
        if low and high / low < 1 + 1e-6:
            break
    return low


def _fewest_steps(inputs: Inputs, target: float, most: int = MOST_STEPS) -> int | None:
    """The fewest steps, not below the given ones, that reach the target; None beyond `most`."""
    if floor(inputs, outcomes(inputs)) > target:
        return None
    return _first(lambda steps: _reaches(replace(inputs, steps=steps), target), inputs.steps, most)


def _first(holds: Callable[[int], bool], start: int, most: int = MOST_STEPS) -> int | None:
    """The least integer from `start` to `most` at which a monotone condition holds."""
    low, high = start - 1, start
    while not holds(high):
        if high >= most:
            return None
        low, high = high, min(2 * high, most)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if holds(middle) else (middle, high)
    return high


def _rho_then_steps(inputs: Inputs, target: float) -> Inputs | None:
    """The rho whose floor is half the target, and the number of steps needed with it."""
    rho = _largest_rho(replace(inputs, steps=MOST_STEPS), target / 2)
    if not rho:
        return None
    steps = _fewest_steps(replace(inputs, rho=rho), target)
    return None if steps is None else replace(inputs, rho=rho, steps=steps)
