"""What does a SAM step cost beyond its two passes? Every method is measured against the floor, round by round.

    python benchmarks/step_overhead.py [--device cpu] [--nets mlp resnet transformer] [--rounds N] [--seed 0] [--json PATH]
    python benchmarks/step_overhead.py --device cuda [--nets gpt ...]     # what is different there: see _cuda.py

Floor: 2 x (forward + backward) + 1 base step (SGD with momentum), written out by hand.
Memory traffic on top of it that no known implementation avoids on a CPU, in streams over all weights: norm 1 + copy 3 + add 3
+ restore 3 + finite check 1. A stream is one read or write of every entry; a write into memory that is not in the cache
reads it first, hence 3 for a copy.

One process, one thread. Each method steps its own copy of the net on the same data, once per round, in a new random order
every round, so that all start with equally cold caches. Gradients are set to None before each pass; SAM does so itself before
the second. The ratio is taken within a round; its median over the rounds is reported with a 95 % bootstrap interval, and
beside it the ratio of the medians. The learning rate is tiny, so that all rounds do the same work. The nets have no dropout,
so that all methods compute the same; the cost of `clean()` is then that of saving the generator's state.

Before anything is timed, three steps at a normal learning rate must lead all methods to the same weights: to 1e-6 of the
distance between SAM's and the base optimizer's in float64, and roughly in float32. The time in SAM alone is that inside
`perturb()`, `restore()` and `step()` without the base step; it includes clearing the gradients between the passes, which the
floor does too, but not the slower passes after a colder cache.
"""

from __future__ import annotations

import argparse
import json
import platform
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import _cuda
import numpy as np
import torch
from _common import measure, quiet, require_agreement, summary, watching
from _methods import EVERY, METHODS
from _nets import CASES, prepare

LR = 1e-5


def shares(laps: Sequence[tuple[float, float, float]], floor: np.ndarray) -> dict[str, float]:
    """The time in each phase of SAM, divided by the floor of the same round."""
    parts = np.array(laps) / floor[:, None]
    names = ("perturb", "restore", "step less base step")
    return {k: float(v) for k, v in zip((*names, "total"), np.median(np.c_[parts, parts.sum(1)], axis=0), strict=True)}


def run(name: str, rounds: int | None, seed: int) -> dict[str, Any]:
    """Check, warm up and measure one net."""
    case = CASES[name]
    new_task = prepare(case, seed)
    require_agreement(new_task, METHODS)
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
    """Print the table of one net."""
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


def on_cpu(options: argparse.Namespace) -> dict[str, Any]:
    """Measure the nets one by one, on one thread, each printed when it is done."""
    torch.set_num_threads(1)
    results = []
    for name in options.nets or CASES:
        results.append(run(name, options.rounds, options.seed))
        show(results[-1])
    return {"machine": platform.machine(), "threads": 1, "nets": results}


def main(arguments: Sequence[str] | None = None) -> None:
    """Print one table per net; with --json, also write all numbers."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--nets", nargs="+", metavar="NET", help=f"cpu: {', '.join(CASES)}; cuda: {', '.join(_cuda.CASES)}")
    parser.add_argument("--rounds", type=int, help="default: " + ", ".join(f"{k} {v.rounds}" for k, v in CASES.items()))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="file for the numbers")
    options = parser.parse_args(arguments)
    known = CASES if options.device == "cpu" else _cuda.CASES
    if unknown := set(options.nets or ()) - set(known):
        parser.error(f"on {options.device} there is no net {', '.join(sorted(unknown))}; there are {', '.join(known)}")
    found = on_cpu(options) if options.device == "cpu" else _cuda.main(options.nets, options.rounds, options.seed)
    if options.json:
        about = {"torch": torch.__version__, "python": platform.python_version(), "seed": options.seed}
        options.json.write_text(json.dumps({**about, **found}, indent=1) + "\n")


if __name__ == "__main__":
    main()
