"""`make soak`: random configurations against a loop by hand, for an hour or as long as it is told to."""

import argparse
import itertools
import sys
import time
from collections import Counter

import torch

from .beside import soak
from .draw import STEPS, draw

RERUN = 'make soak ARGS="--case {seed}"'


def arguments(given: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=60.0, help="how long (60)")
    parser.add_argument("--seed", type=int, default=0, help="the first case; the next ones follow (0)")
    parser.add_argument("--cases", type=int, help="stop after so many cases")
    parser.add_argument("--case", type=int, help="run this case alone")
    parser.add_argument("--go-on", action="store_true", help="do not stop at the first case that fails")
    parser.add_argument("--interrupts", action="store_true", help="real signals at random moments instead")
    parser.add_argument("--points", action="store_true", help="an interrupt at every point of a step, by every door, instead")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args(given)


def failed(seed: int, error: str) -> str:
    """What to print of a case that parted from the oracle."""
    return f"case {seed} failed at {error}\n{draw(seed).describe()}\n  rerun: {RERUN.format(seed=seed)}\n"


def tally(drawn: Counter[tuple[str, str]]) -> str:
    """How often every choice was drawn."""
    names = dict.fromkeys(name for name, _ in drawn)
    counts = {name: sorted((value, n) for (own, value), n in drawn.items() if own == name) for name in names}
    return "\n".join(f"  {name}: " + ", ".join(f"{value} {n}" for value, n in found) for name, found in counts.items())


def main(given: list[str] | None = None) -> int:
    options = arguments(given)
    torch.set_num_threads(1)
    if options.interrupts:
        from . import interrupts

        return interrupts.main(options)
    if options.points:
        from . import points

        return points.main(options)
    end, drawn, bad, count = time.monotonic() + 60 * options.minutes, Counter[tuple[str, str]](), 0, 0
    seeds = itertools.count(options.seed) if options.case is None else [options.case]
    for seed in itertools.islice(seeds, options.cases):
        if time.monotonic() > end:
            break
        case, error = soak(seed)
        drawn.update(case.drawn())
        count += 1
        if error is not None:
            bad += 1
            sys.stdout.write(failed(seed, error))
            sys.stdout.flush()
            if not options.go_on:
                break
        elif options.case is not None:
            sys.stdout.write(f"case {seed} agrees\n{case.describe()}\n")
    sys.stdout.write(f"{count} cases of {STEPS} steps from seed {options.seed}, {bad} failed; drawn:\n{tally(drawn)}\n")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
