"""Which radius is the tuned one of `sharpmin study`? Constant SAM over a grid, scored on validation samples.

    python benchmarks/study_tuning.py digits

A quarter of the training samples is held out with its true labels, the rest trains as in the study: same budget, same learning
rates, labels drawn anew. The test samples and the seeds of the study are not used. Two minutes for digits on one core.
"""

from __future__ import annotations

import argparse
import math
from dataclasses import replace

import torch

from sharpmin.study._data import CLEAN, NOISY, SETTINGS, Split
from sharpmin.study._run import Cell, run

GRID = (0.05, 0.1, 0.2, 0.4, 0.8, 1.6)
SEEDS = (100, 101, 102)


def held_out(split: Split) -> Split:
    """Train on three quarters of the training samples, score on the rest."""
    x, y, *_ = split
    rows = torch.randperm(len(x), generator=torch.Generator().manual_seed(0))
    test, train = rows[: len(x) // 4], rows[len(x) // 4 :]
    return x[train], y[train], x[test], y[test]


def main() -> None:
    """Print the accuracy on the validation samples of each radius."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("data", choices=SETTINGS)
    name = parser.parse_args().data
    torch.set_num_threads(1)
    setting = SETTINGS[name]
    split = held_out(setting.split())
    for noise in (CLEAN, NOISY):
        for rho in GRID:
            SETTINGS[name] = replace(setting, split=lambda: split, rho={noise: rho})
            found = [run(Cell(name, "sam", noise, seed))["accuracy"] for seed in SEEDS]
            mean = math.fsum(found) / len(found)
            print(f"{name} noise {noise} rho {rho}: {mean:.4f} ({', '.join(f'{v:.3f}' for v in found)})", flush=True)


if __name__ == "__main__":
    main()
