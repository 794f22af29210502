"""The verdict: does rho hold the training loss up, which way, by how much, and what would it cost to do without?

The size and the sign of the effect decide; a p-value is a pre-filter, since the mean of D differs from 0 in every run. The
rules were fixed on one half of the cells and tried on the other (docs/diagnosis.md); "undecided" is an answer.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from sharpmin.core.text import block, wrapped

from .explain import headline, words
from .floor import Floor
from .log import Log, read
from .probe import Probe
from .state import State
from .statistics import Numbers
from .window import Window

SHARE = 0.005  # of the loss: what counts as a fall worth having
HALF = 0.5  # of the gradient cancelled: too much to call SAM free, whatever the fall within the horizon
HELPS = -0.05
LEFT = 0.9  # of the loss of the first block: a run above it has not left its start
LEAST_EPOCHS, LEAST_STEPS = 5, 200
"""Of a window, for a verdict that rests on the noise alone: right after a start its formula said up to ten times too much."""
KNOWN = (None, "SGD", "Adam", "AdamW")
"""Base optimizers whose steps the statistics know."""


_HELD = (State.COLLAPSE, State.HOLDS, State.TWO_CYCLE, State.TRAP, State.RHO_FLOOR)
EXIT_CODES = dict.fromkeys(_HELD, 10) | {State.UNDECIDED: 20, State.MIXED: 20}
"""Of `sharpmin diagnose`: 10 if rho holds the run up, 20 if that is open, else 0."""


@dataclass(frozen=True)
class Diagnosis:
    """A verdict, with the numbers that it rests on.

    Attributes:
        state: the verdict.
        sentences: two, for a practitioner.
        numbers: the statistics.
        window: the stretch of the run that it is about.
        floor: the parts of the gap, where the strong convexity of the loss was declared.
        remarks: what was left out, and what is not claimed.
    """

    state: State
    sentences: tuple[str, str]
    numbers: Numbers
    window: Window
    floor: Floor | None = None
    remarks: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        n, w = self.numbers, self.window
        rows = [
            ("window", f"steps {w.first} to {w.last}", f"in {w.blocks} blocks; rho {w.rho:.4g}, lr {w.lr:.4g}"),
            ("loss", n.loss, "mean of the newest block"),
            ("fall", n.fall, f"predicted within {n.horizon} steps of rho = 0; negative: a rise"),
            ("cancelled", None if n.cancelled is None else f"{n.cancelled:.1%}", "of the mean gradient, by SAM"),
        ]
        said = [line for sentence in self.sentences for line in wrapped(sentence)]
        return "\n".join([f"{self.headline}.", *said, block("Numbers:", rows, self.remarks)])

    @property
    def headline(self) -> str:
        """The verdict in a few words; where rho holds the loss up, whether that is a small, a clear or a large effect."""
        return headline(self.state, self.numbers)

    @property
    def exit_code(self) -> int:
        """For scripts; see `EXIT_CODES`."""
        return EXIT_CODES.get(self.state, 0)


def diagnose(
    source: Probe | Log | str | Path, *, blocks: int | None = None, lr: Callable[[int], float] | None = None
) -> Diagnosis:
    """Say whether rho is what holds a run up, from its own two gradients.

    Args:
        source: a `Probe`, or the path of the JSON lines that it wrote.
        blocks: look at that many of the newest blocks; by default at those within which rho, the learning rate and the loss
            changed by less than a factor of 1.5, and at least at five.
        lr: the learning rate of a step to come, a function of its number; by default that of the scheduler that `watch` was
            given, else the present one.

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
    """The rules, in their order.

    Args:
        n, floor: the numbers.
        known: whether the steps of the base are.
        settled: whether the window is long enough for its noise.
        steady: whether rho was constant, without which nothing stays in a cycle or a trap.
    """
    if steady and n.lag is not None and n.bounce > 1.5 and n.lag < -0.5:
        return State.TWO_CYCLE
    if steady and n.lag is not None and n.ascending is not None and n.lag > 0.99 and n.ascending < 0.05:
        return State.TRAP
    if floor is not None:
        return {"rho": State.RHO_FLOOR, "noise": State.NOISE_FLOOR}.get(floor.larger, State.MIXED)
    return _of_net(n, known, settled)


def _of_net(n: Numbers, known: bool, settled: bool) -> State:
    """Where no optimum is known: the fall of the loss against the loss."""
    half = n.cancelled is not None and n.cancelled >= HALF  # whatever p: a slow escape lies beyond the horizon
    if _helps(n):
        return State.HELPS
    if n.loss is None or not n.loss > 0:
        return State.UNDECIDED
    if half and n.fall > 0 and _at_start(n):
        return State.COLLAPSE
    if n.fall >= SHARE * n.loss:
        return State.HOLDS if settled or n.drop >= SHARE * n.loss else State.UNDECIDED
    small = max(n.upper, 0.0) + 2 * n.amplified < SHARE * n.loss
    return State.FREE if small and known and not half and not _at_start(n) else State.UNDECIDED


def _at_start(n: Numbers) -> bool:
    """Whether the loss has not left its start: then a slow escape lies beyond the horizon, and SAM is never called free."""
    return n.start is not None and n.loss is not None and n.loss >= LEFT * n.start


def _helps(n: Numbers) -> bool:
    """Whether the force is along the descent, with all of its interval."""
    if n.cancelled is None or n.cancelled_interval is None:
        return False
    return n.fall < 0 and n.cancelled < HELPS and n.cancelled_interval[1] < 0


def _least(window: Window) -> int:
    """How many steps it takes to know the noise."""
    epoch = window.run.get("epoch")
    return LEAST_EPOCHS * int(epoch) if epoch else LEAST_STEPS


def _not_claimed(window: Window, numbers: Numbers, state: State) -> list[str]:
    """What the reader might think that was said."""
    remarks, epoch = [], window.run.get("epoch")
    if numbers.loss is None:
        remarks.append("no loss was recorded, so no fall could be called large; give it by probe.note(loss), or use a closure")
    if not window.lr > 0:
        remarks.append(
            "the learning rate is 0 or unknown, so no fall can be predicted; give the base: watch(model, optimizer=base)"
        )
    if window.run.get("base") not in KNOWN:
        remarks.append(
            f"the steps of {window.run['base']} are taken for those of SGD or Adam, so the predicted fall is a guess"
        )
    if window.steps < _least(window):
        long = f"{window.steps / epoch:.1f} epochs" if epoch else f"{window.steps} steps"
        least = LEAST_EPOCHS if epoch else LEAST_STEPS
        remarks.append(f"the window has {long}; with fewer than {least} the verdict is less sure, and never by noise alone")
    if window.run.get("reshuffled") is not False and window.run.get("mu"):
        remarks.append("the noise part is an upper bound, up to 25 times too high, unless samples are drawn with replacement")
    if state is State.UNDECIDED and _at_start(numbers):
        remarks.append("the loss has not left its start, where rho = 0 may let it go only after the horizon")
    if state is State.HOLDS and math.isinf(numbers.drop_interval[0]):
        remarks.append("the predicted fall has no interval: too few blocks")
    return remarks
