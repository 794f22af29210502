"""What does `from sharpmin import SAM` cost on top of `import torch`?

    python benchmarks/import_time.py [--rounds 7] [--budget 0.08]

Fresh processes run in alternating order: `import torch` alone, and `import torch` followed by `from sharpmin import SAM`
(`import sharpmin` by itself loads almost nothing). Each times its own imports, so that starting Python is not counted. It
prints the medians and their difference, which is as noisy as `import torch`, and the median time of sharpmin's import alone;
the exit code is 1 if the latter exceeds the budget. A first process writes the bytecode, as pip does when it installs.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from statistics import median

TORCH = "import torch"
BOTH = "import torch; middle = clock(); from sharpmin import SAM"


def seconds(code: str) -> tuple[float, float]:
    """The seconds of all imports, and of those after torch, in a fresh process."""
    timed = f"from time import perf_counter as clock; middle = None; start = clock(); {code}; end = clock()"
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    command = [sys.executable, "-c", f"{timed}; print(end - start, end - (middle or end))"]
    run = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    whole, after = run.stdout.split()
    return float(whole), float(after)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--budget", type=float, default=0.08, help="seconds")
    asked = parser.parse_args()
    seconds(BOTH)
    alone, both = [], []
    for number in range(asked.rounds):
        for code, times in ((TORCH, alone), (BOTH, both))[:: 1 if number % 2 else -1]:
            times.append(seconds(code))
    wholes = [sorted(whole for whole, _ in times) for times in (alone, both)]
    sharpmin = median(after for _, after in both)
    for name, times in zip(("import torch", "import torch; then SAM"), wholes, strict=True):
        print(f"{name:<30} {median(times):.3f} s   {times[0]:.3f} ... {times[-1]:.3f}, {asked.rounds} processes")
    print(f"{'difference':<30} {median(wholes[1]) - median(wholes[0]):+.3f} s")
    print(f"{'sharpmin by itself':<30} {sharpmin:.3f} s   budget {asked.budget:.3f}")
    return int(sharpmin > asked.budget)


if __name__ == "__main__":
    sys.exit(main())
