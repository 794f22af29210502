"""What does a SAM step cost beyond its two passes? Every method is measured against the floor, round by round.

    python benchmarks/step_overhead.py [--nets mlp resnet transformer] [--rounds N] [--seed 0] [--json PATH]

Floor: 2 x (forward + backward) + 1 base step (SGD with momentum), written out by hand.
Memory traffic on top of it, to which no way round was found on a CPU, in streams over all weights: norm 1 + copy 3 + add 3
+ restore 3 + finite check 1. A stream is one read or write of every entry; a write into memory that is not in the cache
reads it first, hence 3 for a copy.

One process, one thread. Each method steps its own copy of the net on the same data, once a round, in a new random order
every round, so that all start with the same cold caches. Each clears the gradients before a pass, to None; SAM does so
itself before the second. The ratio is taken within a round; its median over the rounds is reported with a 95 % bootstrap
interval, and beside it the ratio of the medians. The learning rate is tiny, so that all rounds do the same work. No
dropout, or the methods could not be compared: the price of `clean()` is that of the generator's state.

Before anything is timed, three steps at a real learning rate must lead all methods to the same weights, to 1e-6 of the
distance between SAM's and the base optimizer's in float64, and grossly in float32. The time in SAM alone is that inside
`perturb()`, `restore()` and `step()` less the base step; it counts the clearing of the gradients between the passes, which
the floor does too, but not what a colder cache costs the passes.
"""

from __future__ import annotations

import argparse
import gc
import json
import platform
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _methods import EVERY, METHODS, Method, Step, timed
from _nets import CASES, Task, prepare
from torch import Tensor, nn

LR, CHECK_LR, WARM_UP = 1e-5, 0.02, 3
TOLERANCES = {torch.float64: 1e-6, torch.float32: 0.1}  # kinks and BatchNorm over few entries blow float32 rounding up


# --- the check before, and the clock ------------------------------------------------------------------------------------


def weights_after(method: Method, task: Task, steps: int = 3) -> Tensor:
    step = method.make(task)
    for _ in range(steps):
        step()
    return nn.utils.parameters_to_vector(task.net.parameters()).detach().double()


def demand_agreement(new_task: Callable[..., Task], methods: dict[str, Method]) -> None:
    """Refuse to time a method that computes something else than it should.

    Raises:
        SystemExit: if one does.
    """
    for dtype, tolerance in TOLERANCES.items():
        known = {k: weights_after(METHODS[k], new_task(CHECK_LR, dtype)) for k in ("base alone", "two-step wrapper")}
        scale = (known["two-step wrapper"] - known["base alone"]).norm()
        for name, method in methods.items():
            if method.like is None:
                continue
            off = float((weights_after(method, new_task(CHECK_LR, dtype)) - known[method.like]).norm() / scale)
            if not off <= tolerance:
                raise SystemExit(f"{name} is not {method.like}: {off:.1e} of a SAM's way from its base apart, in {dtype}")


def one_round(steps: dict[str, Step], order: Sequence[str]) -> dict[str, float]:
    """Every method once; the garbage collector runs only in between."""
    took = {}
    for name in order:
        gc.disable()
        try:
            took[name] = timed(steps[name])
        finally:
            gc.enable()
    return took


def measure(steps: dict[str, Step], rounds: int, seed: int) -> dict[str, np.ndarray]:
    """The seconds of every method in every round."""
    shuffle, names = random.Random(seed), list(steps)
    took = [one_round(steps, shuffle.sample(names, len(names))) for _ in range(rounds + WARM_UP)][WARM_UP:]
    return {name: np.array([row[name] for row in took]) for name in names}


# --- what came out ------------------------------------------------------------------------------------------------------


def interval(ratios: np.ndarray, seed: int) -> tuple[float, float]:
    """95 % bootstrap interval of the median."""
    rows = np.random.default_rng(seed).integers(len(ratios), size=(2000, len(ratios)))
    low, high = np.quantile(np.median(ratios[rows], axis=1), [0.025, 0.975])
    return float(low), float(high)


def summary(seconds: np.ndarray, floor: np.ndarray, seed: int) -> dict[str, float]:
    """A method against the floor of the same rounds."""
    low, high = interval(seconds / floor, seed)
    medians = float(np.median(seconds) / np.median(floor))
    return {"ms": 1e3 * float(np.median(seconds)), "ratio": float(np.median(seconds / floor)), "low": low, "high": high,
            "ratio_of_medians": medians}  # fmt: skip


def quiet(again: dict[str, float]) -> bool:
    """Whether the floor against itself was within 2 %: else a ratio is noise, and its lower end reaches any target."""
    return again["low"] >= 0.98 and again["high"] <= 1.02


def shares(laps: Sequence[tuple[float, float, float]], floor: np.ndarray) -> dict[str, float]:
    """The time in each phase of SAM, as a share of the floor of the same round."""
    parts = np.array(laps) / floor[:, None]
    names = ("perturb", "restore", "step less base step")
    return {k: float(v) for k, v in zip((*names, "total"), np.median(np.c_[parts, parts.sum(1)], axis=0), strict=True)}


def watching(ratios: np.ndarray) -> float:
    """What watching adds to a SAM step on average, as a share of it: a median for each place in the cycle of sketches."""
    whole = ratios[: len(ratios) // EVERY * EVERY].reshape(-1, EVERY)
    return float(np.median(whole, axis=0).mean() - 1) if len(whole) else float("nan")


def run(name: str, rounds: int | None, seed: int) -> dict[str, Any]:
    """Check, warm up and measure one net."""
    case = CASES[name]
    new_task = prepare(case, seed)
    demand_agreement(new_task, METHODS)
    count = rounds or case.rounds
    steps = {k: method.make(new_task(LR)) for k, method in METHODS.items()}
    seconds = measure(steps, count, seed)
    methods = {k: summary(v, seconds["floor"], seed) for k, v in seconds.items()}
    sizes = [p.numel() for p in new_task(LR).net.parameters()]
    return {"net": name, "tensors": len(sizes), "parameters": sum(sizes), "rounds": count, "target": case.target,
            "reached": methods["SAM"]["low"] <= case.target, "quiet": quiet(methods["floor again"]), "methods": methods,
            "watching": watching(seconds["SAM watch"] / seconds["SAM"]),
            "phases": shares(steps["SAM phases"].laps[-count:], seconds["floor"])}  # fmt: skip


def show(result: dict[str, Any]) -> None:
    """One net as a table."""
    print("\n{net}: {tensors} tensors, {parameters:,} parameters, {rounds} rounds".format(**result))
    print(f"  {'method':18}{'ms':>9}{'ratio':>8}  {'95 % interval':15}{'of medians':>11}")
    for name, row in result["methods"].items():
        between = f"{row['low']:.3f} .. {row['high']:.3f}"
        print(f"  {name:18}{row['ms']:9.2f}{row['ratio']:8.3f}  {between:15}{row['ratio_of_medians']:11.3f}")
    print("  time in SAM alone, of the floor: " + ", ".join(f"{k} {v:.1%}" for k, v in result["phases"].items()))
    print(f"  watching, sketches every {EVERY} steps: {result['watching']:.1%} of a SAM step")
    verdict = "reached" if result["reached"] else "not reached"
    noise = "" if result["quiet"] else " (too noisy to count: see the floor against itself)"
    low = result["methods"]["SAM"]["low"]
    print(f"  SAM, lower end of the interval {low:.3f}, target {result['target']:.2f}: {verdict}{noise}", flush=True)


def main(arguments: Sequence[str] | None = None) -> None:
    """Print one table a net; with --json, write all numbers as well."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--nets", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--rounds", type=int, help="default: " + ", ".join(f"{k} {v.rounds}" for k, v in CASES.items()))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="file for the numbers")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    results = []
    for name in options.nets:
        results.append(run(name, options.rounds, options.seed))
        show(results[-1])
    if options.json:
        about = {"torch": torch.__version__, "python": platform.python_version(), "machine": platform.machine(), "threads": 1}
        options.json.write_text(json.dumps({**about, "seed": options.seed, "nets": results}, indent=1) + "\n")


if __name__ == "__main__":
    main()
