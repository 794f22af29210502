"""The findings of a study as sentences: does SAM help, is it worth its passes, which rho, which cheap SAM."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from sharpmin.core.text import wrapped

from ._estimate import Estimate
from ._frontier import best_cheap, share_of_gain
from ._methods import METHODS, title
from ._settings import setting
from ._table import Line, best_base, collapsed, paired, table
from ._trials import Rows, scores, tried


@dataclass(frozen=True)
class Finding:
    """A `sentence` about one `question`, at a `noise` of the labels; `clear` says whether its interval decides it."""

    question: str
    noise: float
    clear: bool
    sentence: str

    def __str__(self) -> str:
        return "\n".join(wrapped(self.sentence))


def findings(rows: Rows) -> list[Finding]:
    """A sentence for each question that the rows can answer, clean labels first."""
    lines = table(rows)
    found = []
    for noise in sorted({line.noise for line in lines}):
        own = {line.method: line for line in lines if line.noise == noise}
        if "sam" in own and "base" in own:
            found += [
                *_help(rows, own),
                *_worth(rows, own),
                *_radius(rows, own["sam"]),
                *_cheap(rows, own),
                *_collapse(rows, own),
            ]
    return found


def _name(rows: Rows, method: str) -> str:
    return f"“{title(method, setting(next(iter(rows)).data))}”"


def _help(rows: Rows, own: Mapping[str, Line]) -> Iterator[Finding]:
    sam = own["sam"]
    best = own[best_base(rows, sam.noise)]
    text = (
        f"SAM has {points(sam.gain)} of test accuracy over {_name(rows, best.method)}, the best length on validation samples, "
        f"{sam.passes / best.passes:.2g} times its passes: {verdict(sam.gain)}"
    )
    if sam.gain.low <= 0:
        text += f". It does not pay here, as far as {sam.runs} seed{'s' * (sam.runs > 1)} can tell"
    yield Finding("does SAM help", sam.noise, decided(sam.gain), f"{text}.")


def _worth(rows: Rows, own: Mapping[str, Line]) -> Iterator[Finding]:
    for method, against in (("sam", "base-2"), ("sam-1/2", "base")):
        if method in own and against in own:
            noise = own[method].noise
            gain = paired(rows, method, against, noise)
            text = f"At equal passes, {_name(rows, method)} has {points(gain)} over {_name(rows, against)}: {verdict(gain)}."
            yield Finding("is it worth the passes", noise, decided(gain), text)


def _radius(rows: Rows, sam: Line) -> Iterator[Finding]:
    found = sorted(scores(rows, "sam", sam.noise).items(), key=lambda one: one[0][1])
    shown = ", ".join(f"{rho:g}: {score:.1%}" for (lr, rho), score in found if lr == sam.lr)
    lost = Counter(cell.rho for cell, row in tried(rows, "sam", sam.noise).items() if collapsed(cell, row))
    text = f"SAM's best rho on validation samples is {sam.rho:g} (at its learning rate {sam.lr:g}: {shown})"
    if "rho" in sam.edge:
        text += "; that is an end of the grid"
    falls = [f"{count} with rho {rho:g}" for rho, count in sorted(lost.items())]
    text += f"; of the trials, {' and '.join(falls)} collapsed" if falls else "; no trial of SAM collapsed"
    yield Finding("which rho", sam.noise, "rho" not in sam.edge, text + ".")


def _cheap(rows: Rows, own: Mapping[str, Line]) -> Iterator[Finding]:
    sam, cheap = own["sam"], best_cheap(list(own.values()), own["sam"].noise)
    if cheap is None:
        return
    text = f"The best cheap variant on validation samples, {_name(rows, cheap.method)} at {cheap.passes:.3g} times the passes, "
    share, low, high = share_of_gain(cheap, sam)
    if math.isnan(share):
        text += f"has {points(cheap.gain)} over the best base; SAM's own gain is not clear, so no share of it is given."
        yield Finding("what a cheap SAM reaches", sam.noise, decided(cheap.gain), text)
        return
    text += f"reaches {share:.0%} ({low:.0%} to {high:.0%}) of SAM's gain over the best base."
    yield Finding("what a cheap SAM reaches", sam.noise, low > 0, text)


def _collapse(rows: Rows, own: Mapping[str, Line]) -> Iterator[Finding]:
    noise = own["sam"].noise
    worst = []
    for name in (name for name in own if METHODS[name].scale):
        fell = [collapsed(cell, row) for cell, row in tried(rows, name, noise).items()]
        if any(fell):
            worst.append(f"{_name(rows, name)} {sum(fell)} of {len(fell)}")
    chosen = sum(line.collapsed for line in own.values())
    text = f"Trials that collapsed: {', '.join(worst)}" if worst else "No trial of a SAM collapsed"
    yield Finding("collapse", noise, True, f"{text}; of the runs in the table, {chosen or 'none'} did.")


def decided(difference: Estimate) -> bool:
    """Whether the interval excludes 0."""
    return difference.low > 0 or difference.high < 0


def verdict(gain: Estimate) -> str:
    """The gain in words."""
    if not decided(gain):
        return "not clear"
    return "a clear gain" if gain.mean > 0 else "a clear loss"


def points(difference: Estimate) -> str:
    """A difference of accuracies in percentage points.

    >>> points(Estimate(0.0213, 0.004)), points(Estimate(-0.01, None))
    ('+2.1 ± 0.4 points', '-1.0 points')
    """
    mean = 100 * difference.mean
    return f"{mean:+.1f} points" if difference.half is None else f"{mean:+.1f} ± {100 * difference.half:.1f} points"
