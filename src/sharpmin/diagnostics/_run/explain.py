"""A verdict in two sentences: the finding, with the deciding part first, and what to do."""

from __future__ import annotations

import math

from .floor import Floor
from .state import State
from .statistics import Numbers

SMALL, LARGE = 0.02, 0.1
"""Shares of the loss: below the first a fall is small, from the second on it is large."""


def words(state: State, n: Numbers, floor: Floor | None) -> tuple[str, str]:
    """Two sentences for a practitioner."""
    if floor is not None and state in (State.RHO_FLOOR, State.NOISE_FLOOR, State.MIXED):
        return floor.words()
    return _SAID[state](n)


def headline(state: State, n: Numbers) -> str:
    """The verdict in a few words, *holds* with its size."""
    return f"{state.value}, a {size(n)} effect" if state is State.HOLDS else state.value


def size(n: Numbers) -> str:
    """The size of the predicted fall against the loss: "small", "clear" or "large".

    A small one is normal for SAM.
    """
    share = n.fall / n.loss if n.loss else 0.0
    return "small" if share < SMALL else "large" if share >= LARGE else "clear"


def _holds(n: Numbers) -> tuple[str, str]:
    remedy = {
        "small": "a small price that SAM normally has; where the training loss alone is the goal, let rho decay",
        "clear": "confirm it with the toggle, and if the training loss is the goal, let rho decay or switch SAM off late",
        "large": "confirm it with the toggle, then halve rho, clip (`sm.ClippedDifference`), or start SAM later",
    }[size(n)]
    return (
        f"Rho is holding the training loss up, a {size(n)} effect: {_reasons(n)}.",
        f"With rho = 0 the training loss should fall by {_about(n)}, which promises nothing for test accuracy; {remedy}.",
    )


def _reasons(n: Numbers) -> str:
    """The parts that contribute to the fall, the larger first."""
    force = "SAM's force cancels " + (
        f"{_cancelled(n)} of the loss gradient" if (n.resolved or 0) > 0 else "part of the loss gradient"
    )
    noise = f"SAM amplifies the noise of the batches by {n.amplification:.0%}"
    parts = sorted([(n.drop, force), (n.relief, noise)], reverse=True)
    told = [text for value, text in parts if value > 0.1 * abs(n.fall)]
    return ", and ".join(told or [parts[0][1]])


def _about(n: Numbers) -> str:
    """The predicted fall with its interval and horizon; never more than the loss."""
    most = n.loss if n.loss is not None and n.loss > 0 else math.inf
    low, high = (min(max(v, 0.0), most) for v in n.fall_interval)
    told = f" (95 %: {low:.3g} to {high:.3g})" if all(map(math.isfinite, n.fall_interval)) else ""
    about = "at least" if n.curvature < 0 else "about"
    share = f", {n.attainable / n.loss:.1%} of it" if n.loss and math.isfinite(most) else ""
    return f"{about} {n.attainable:.3g}{share}{told}, within {n.horizon} steps"


def _collapse(n: Numbers) -> tuple[str, str]:
    return (
        f"The loss has not left its start ({n.loss or 0.0:.3g} now, {n.start or 0.0:.3g} in the first block), and SAM's force "
        f"cancels {_cancelled(n)} of its gradient: rho is far too large.",
        "Start SAM later (`rho.Tail`), clip the difference (`descent=sm.ClippedDifference(0.5)`), or take a fifth of this rho.",
    )


def _free(n: Numbers) -> tuple[str, str]:
    return (
        "SAM is not what limits the training loss: without SAM it would fall by at most "
        f"{max(n.upper, 0.0) + 2 * n.amplified:.3g} within {n.horizon} steps.",
        "Look at the learning rate, the noise of the batches or the model instead.",
    )


def _helps(n: Numbers) -> tuple[str, str]:
    return (
        f"SAM is speeding the descent up: its force is {-(n.cancelled or 0.0):.0%} of the loss gradient, and along it.",
        "With rho = 0 the training loss would fall more slowly at this learning rate.",
    )


def _undecided(n: Numbers) -> tuple[str, str]:
    if not n.loss:
        what = (
            f"with rho = 0 the loss might {'fall' if n.fall > 0 else 'rise'} by {abs(n.fall):.3g} within {n.horizon} steps, "
            "and no loss was recorded to compare with: probe.note(loss)"
        )
    else:
        low, high = n.fall_interval
        told = f" (95 %: {low:.3g} to {high:.3g})" if math.isfinite(low) else ""
        what = f"the predicted fall with rho = 0 is {n.fall:.3g}{told} of a loss of {n.loss:.3g}, within {n.horizon} steps"
    stays = ""
    if n.at_start and n.loss and n.start:
        stays = (
            f"The loss stays where it began ({n.loss:.3g} now, {n.start:.3g} in the first block), so the model learns almost "
            "nothing; a rho that is far too large can be the cause, or the learning rate. "
        )
    return (
        f"{stays}The window does not decide it: {what}.",
        "Run the toggle (sharpmin.diagnostics.toggle): copies that go on with rho and with rho = 0, on the same batches and "
        f"the run's own schedule, for {max(20, n.horizon)} steps.",
    )


def _two_cycle(n: Numbers) -> tuple[str, str]:
    return (
        f"The iterates jump to and fro across the minimum: lr times the curvature along SAM's step is {n.bounce:.2f} (2 on a "
        f"two-cycle), and the cosine of one gradient and the next is {n.lag or 0.0:.2f}.",
        "This is the cycle that a constant rho keeps up without noise, lr beta rho / (2 - lr beta) wide: let rho decay.",
    )


def _trap(n: Numbers) -> tuple[str, str]:
    return (
        f"The mean gradient at w + e is {n.ascending or 0.0:.1%} of that at w: SAM stops where the loss could still fall.",
        f"A smaller rho, or rho = 0, lets the loss fall: {_about(n)}; to confirm, run the toggle.",
    )


def _cancelled(n: Numbers) -> str:
    if n.cancelled is None:
        return "an unresolved share"
    if n.cancelled_interval is None:
        return f"{n.cancelled:.0%}"
    low, high = n.cancelled_interval
    return f"{n.cancelled:.0%} (95 %: {low:.0%} to {high:.0%})"


_SAID = {
    State.COLLAPSE: _collapse,
    State.HOLDS: _holds,
    State.FREE: _free,
    State.HELPS: _helps,
    State.UNDECIDED: _undecided,
    State.TWO_CYCLE: _two_cycle,
    State.TRAP: _trap,
}
