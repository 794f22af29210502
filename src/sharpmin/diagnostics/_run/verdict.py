"""The verdict: does rho keep the training loss too high, why, by how much, and what would rho = 0 change?

The size and the sign of the effect decide, not a p-value, since the mean of D differs from 0 in every run. The rules were
fixed on one half of the calibration runs and tested on the other (docs/diagnosis.md). "Undecided" is a valid verdict.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from sharpmin.core.text import block, brief, wrapped

from .explain import headline, words
from .floor import Floor
from .log import Log, read
from .probe import Probe
from .state import State
from .statistics import Numbers
from .window import Window

SHARE = 0.005  # share of the loss from which a fall counts
HALF = 0.5  # share of the gradient cancelled from which SAM is never called free, whatever the predicted fall
HELPS = -0.05
LEAST_EPOCHS, LEAST_STEPS = 5, 200
"""The least window for a verdict by the noise part alone: early in a run its formula was up to ten times too large."""
KNOWN = (None, "SGD", "Adam", "AdamW")
"""Base optimizers whose steps the statistics model."""


_HELD = (State.COLLAPSE, State.HOLDS, State.TWO_CYCLE, State.TRAP, State.RHO_FLOOR)
EXIT_CODES = dict.fromkeys(_HELD, 10) | {State.UNDECIDED: 20, State.MIXED: 20}
"""Exit codes of `sharpmin diagnose`: 10 if rho holds the loss up, 20 if undecided, else 0."""


@dataclass(frozen=True)
class Diagnosis:
    """A verdict with its numbers.

    Attributes:
        state: the verdict.
        sentences: two, for a practitioner.
        numbers: the statistics.
        window: the blocks of the run that were used.
        floor: the parts of the gap to the optimum, if the strong convexity `mu` was given to `watch`.
        remarks: what was left out, and what is not claimed.
    """

    state: State
    sentences: tuple[str, str]
    numbers: Numbers
    window: Window
    floor: Floor | None = None
    remarks: list[str] = field(default_factory=list)

    def __repr__(self) -> str:
        n, w = self.numbers, self.window
        fall = f"predicted fall {brief(n.fall)} within {n.horizon} steps of rho = 0"
        return f"<Diagnosis: {self.headline}; steps {w.first} to {w.last}, loss {brief(n.loss)}, {fall}>"

    def __str__(self) -> str:
        n, w = self.numbers, self.window
        rows = [
            ("window", f"steps {w.first} to {w.last}", f"in {w.blocks} blocks; rho {w.rho:.4g}, lr {w.lr:.4g}"),
            ("loss", n.loss, "mean of the newest block"),
            ("fall", n.fall, f"predicted within {n.horizon} steps of rho = 0; negative: a rise"),
            ("cancelled", "unresolved" if n.resolved is None else f"{n.resolved:.1%}", "of the mean gradient, by SAM"),
        ]
        said = [line for sentence in self.sentences for line in wrapped(sentence)]
        return "\n".join([f"{self.headline}.", *said, block("Numbers:", rows, self.remarks)])

    @property
    def headline(self) -> str:
        """The verdict in a few words; where rho holds the loss up, whether that is a small, a clear or a large effect."""
        return headline(self.state, self.numbers)

    @property
    def exit_code(self) -> int:
        """The exit code of `sharpmin diagnose`; see `EXIT_CODES`."""
        return EXIT_CODES.get(self.state, 0)


def diagnose(
    source: Probe | Log | str | Path, *, blocks: int | None = None, lr: Callable[[int], float] | None = None
) -> Diagnosis:
    """Decide from the two gradients of a run whether rho keeps its training loss too high.

    Args:
        source: a `Probe`, or the path of the JSON lines that it wrote.
        blocks: how many of the newest blocks to use; by default those within which rho, the learning rate and the loss
            changed by less than a factor of 1.5, at least five.
        lr: the learning rate as a function of the step number, for future steps; by default that of the scheduler given to
            `watch`, else the present one.

    Returns:
        The `Diagnosis`; `print` it.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it holds no SAM steps, or too short a window of them.
    """
    log = source.log if isinstance(source, Probe) else source if isinstance(source, Log) else read(source)
    window = Window.of(log, blocks, lr)
    numbers = Numbers.of(window)
    floor = Floor.of(window, numbers) if window.run.get("mu") else None
    known, settled = window.run.get("base") in KNOWN and window.lr > 0, window.steps >= _least(window)
    state = decide(numbers, floor, known=known, settled=settled, steady=window.steady)
    remarks = [*window.remarks, *_not_claimed(window, numbers, state)]
    return Diagnosis(state, words(state, numbers, floor), numbers, window, floor, remarks)


def decide(n: Numbers, floor: Floor | None = None, *, known: bool = True, settled: bool = True, steady: bool = True) -> State:
    """Apply the rules, in their order.

    Args:
        n: the numbers.
        floor: the parts of the gap, if known.
        known: whether the statistics model the steps of the base.
        settled: whether the window is long enough for the noise part.
        steady: whether rho was constant; only then are two-cycles and traps possible.
    """
    if steady and n.lag is not None and n.bounce > 1.5 and n.lag < -0.5:
        return State.TWO_CYCLE
    if steady and n.lag is not None and n.ascending is not None and n.lag > 0.99 and n.ascending < 0.05:
        return State.TRAP
    if floor is not None:
        return {"rho": State.RHO_FLOOR, "noise": State.NOISE_FLOOR}.get(floor.larger, State.MIXED)
    return _of_net(n, known, settled)


def _of_net(n: Numbers, known: bool, settled: bool) -> State:
    """The rules for a loss with unknown optimum: the predicted fall against the loss."""
    half = n.cancelled is not None and n.cancelled >= HALF  # an escape may take longer than the horizon
    if _helps(n):
        return State.HELPS
    if n.loss is None or not n.loss > 0:
        return State.UNDECIDED
    if half and n.fall > 0 and n.at_start:
        return State.COLLAPSE
    if n.fall >= SHARE * n.loss:
        return State.HOLDS if settled or n.drop >= SHARE * n.loss else State.UNDECIDED
    small = max(n.upper, 0.0) + 2 * n.amplified < SHARE * n.loss
    return State.FREE if small and known and not half and not n.at_start else State.UNDECIDED


def _helps(n: Numbers) -> bool:
    """Whether SAM's mean force speeds the descent up, with all of its interval."""
    if n.cancelled is None or n.cancelled_interval is None:
        return False
    return n.fall < 0 and n.cancelled < HELPS and n.cancelled_interval[1] < 0


def _least(window: Window) -> int:
    """The least steps of a window for a verdict by the noise part alone."""
    epoch = window.run.get("epoch")
    return LEAST_EPOCHS * int(epoch) if epoch else LEAST_STEPS


def _not_claimed(window: Window, numbers: Numbers, state: State) -> list[str]:
    """Remarks on what the verdict does not claim."""
    remarks, epoch = [], window.run.get("epoch")
    if numbers.loss is None:
        remarks.append("no loss was recorded, so no fall could be called large; give it by probe.note(loss), or use a closure")
    if not window.lr > 0:
        remarks.append(
            "the learning rate is 0 or unknown, so no fall can be predicted; give the base: watch(model, optimizer=base)"
        )
    if window.run.get("base") not in KNOWN:
        remarks.append(
            f"the steps of {window.run['base']} are treated as those of SGD or Adam, so the predicted fall is a guess"
        )
    if window.steps < _least(window):
        long = f"{window.steps / epoch:.1f} epochs" if epoch else f"{window.steps} steps"
        least = LEAST_EPOCHS if epoch else LEAST_STEPS
        remarks.append(f"the window has {long}; with fewer than {least} the verdict is less sure, and never by noise alone")
    if window.run.get("reshuffled") is not False and window.run.get("mu"):
        remarks.append("the noise part is an upper bound, up to 25 times too high, unless samples are drawn with replacement")
    if state is State.UNDECIDED and numbers.at_start:
        remarks.append("the loss has not left its start, where rho = 0 may let it go only after the horizon")
    if state is State.HOLDS and math.isinf(numbers.drop_interval[0]):
        remarks.append("the predicted fall has no interval: too few blocks")
    return remarks
