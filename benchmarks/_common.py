"""Shared by all runs of `step_overhead.py`: the check before timing, the clock, and the ratio to the floor."""

from __future__ import annotations

import gc
import random
from collections.abc import Callable, Sequence

import numpy as np
import torch
from _methods import EVERY, METHODS, Method, Step, timed
from _nets import Task
from torch import Tensor, nn

CHECK_LR, WARM_UP = 0.02, 3
TOLERANCES = {torch.float64: 1e-6, torch.float32: 0.1}  # kinks and BatchNorm over few entries blow float32 rounding up


def weights_after(method: Method, task: Task, steps: int = 3) -> Tensor:
    step = method.make(task)
    for _ in range(steps):
        step()
    return nn.utils.parameters_to_vector(task.net.parameters()).detach().double()


def require_agreement(new_task: Callable[..., Task], methods: dict[str, Method]) -> None:
    """Stop unless every method computes the weights that it should.

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
    """Time every method once; the garbage collector runs only in between."""
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


def interval(ratios: np.ndarray, seed: int) -> tuple[float, float]:
    """95 % bootstrap interval of the median."""
    rows = np.random.default_rng(seed).integers(len(ratios), size=(2000, len(ratios)))
    low, high = np.quantile(np.median(ratios[rows], axis=1), [0.025, 0.975])
    return float(low), float(high)


def summary(seconds: np.ndarray, floor: np.ndarray, seed: int) -> dict[str, float]:
    """The ratios of a method to the floor of the same rounds, summarized."""
    low, high = interval(seconds / floor, seed)
    medians = float(np.median(seconds) / np.median(floor))
    return {"ms": 1e3 * float(np.median(seconds)), "ratio": float(np.median(seconds / floor)), "low": low, "high": high,
            "ratio_of_medians": medians}  # fmt: skip


def quiet(again: dict[str, float]) -> bool:
    """Whether two timings of the floor agree to 2 %; if not, the machine is too noisy for a ratio to mean anything."""
    return again["low"] >= 0.98 and again["high"] <= 1.02


def watching(ratios: np.ndarray) -> float:
    """The mean share that watching adds to a SAM step: a median for each step of the sketching cycle, then their mean."""
    whole = ratios[: len(ratios) // EVERY * EVERY].reshape(-1, EVERY)
    return float(np.median(whole, axis=0).mean() - 1) if len(whole) else float("nan")
