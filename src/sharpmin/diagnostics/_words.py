"""A verdict in two sentences: what is the case, and what to do. Numbers, horizon and interval are always said."""

from __future__ import annotations

from ._state import State
from .floor import Floor
from .statistics import Numbers


def words(state: State, n: Numbers, floor: Floor | None) -> tuple[str, str]:
    """Two sentences for a practitioner."""
    if floor is not None and state in (State.RHO_FLOOR, State.NOISE_FLOOR, State.MIXED):
        return floor.words()
    return _SAID[state](n)


def _holds(n: Numbers) -> tuple[str, str]:
    return (
        f"Rho is holding the training loss up: SAM's force cancels {_cancelled(n)} of the loss gradient, and SAM amplifies the "
        f"noise of the batches by {n.amplification:.0%}.",
        f"With rho = 0 the training loss should fall by about {n.fall:.3g}, {_share(n)} ({_bracket(n)}, and {n.relief:.3g} by "
        "less noise), which promises nothing for test accuracy; confirm it with the toggle, and if the training loss is the "
        "goal, let rho decay.",
    )


def _free(n: Numbers) -> tuple[str, str]:
    return (
        "SAM is not what limits the training loss: without SAM it would fall by at most "
        f"{max(n.upper, 0.0) + 2 * n.amplified:.3g} within {n.horizon} steps.",
        "Look at the learning rate, the noise of the batches or the model instead.",
    )


def _helps(n: Numbers) -> tuple[str, str]:
    return (
        f"SAM is speeding the descent up: it cancels {_cancelled(n)} of the loss gradient, and less than 0 is help.",
        "With rho = 0 the training loss would fall more slowly at this learning rate.",
    )


def _undecided(n: Numbers) -> tuple[str, str]:
    without = "" if n.loss else ", and no loss was recorded to compare that with"
    return (
        f"The window does not decide it: SAM's force cancels {_cancelled(n)} of the loss gradient, and the predicted fall with "
        f"rho = 0 is {n.fall:.3g}, {_share(n)} ({_bracket(n)}){without}.",
        "Run the toggle: one copy with rho and one with rho = 0, on the same batches for a quarter of this window.",
    )


def _two_cycle(n: Numbers) -> tuple[str, str]:
    return (
        f"The iterates jump to and fro across the minimum: lr times the curvature along SAM's step is {n.bounce:.2f} (2 on a "
        f"two-cycle), and the cosine of one gradient and the next is {n.lag or 0.0:.2f}.",
        "This is the cycle that a constant rho keeps up without noise, lr beta rho / (2 - lr beta) wide: let rho decay.",
    )


def _trap(n: Numbers) -> tuple[str, str]:
    return (
        f"The mean gradient at w + e is {n.ascending or 0.0:.1%} of the one at w: SAM rests where the loss would fall on.",
        f"A smaller rho, or rho = 0, lets it go on: by about {n.fall:.3g} within {n.horizon} steps, {_share(n)}; to confirm, "
        "run the toggle.",
    )


def _cancelled(n: Numbers) -> str:
    if n.cancelled is None:
        return "an unresolved share"
    if n.cancelled_interval is None:
        return f"{n.cancelled:.0%}"
    low, high = n.cancelled_interval
    return f"{n.cancelled:.0%} (95 %: {low:.0%} to {high:.0%})"


def _share(n: Numbers) -> str:
    return f"{n.fall / n.loss:.1%} of it" if n.loss else "of an unknown loss"


def _bracket(n: Numbers) -> str:
    return f"{n.lower:.3g} to {n.upper:.3g} by its force, within {n.horizon} steps"


_SAID = {
    State.HOLDS: _holds,
    State.FREE: _free,
    State.HELPS: _helps,
    State.UNDECIDED: _undecided,
    State.TWO_CYCLE: _two_cycle,
    State.TRAP: _trap,
}
