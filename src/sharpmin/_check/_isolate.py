"""Isolation of scenarios: random states, modes, defaults, warnings and the import path are restored afterwards."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import torch

SEED = 0


@contextmanager
def isolated(seed: int | None = SEED) -> Iterator[list[warnings.WarningMessage]]:
    """A block with fresh global state, which is restored afterwards; yields the list of warnings.

    Args:
        seed: the seed of the CPU generator inside; None leaves the generator where it is.

    >>> before = torch.get_rng_state()
    >>> with isolated():
    ...     _ = torch.rand(3)
    >>> torch.equal(before, torch.get_rng_state())
    True
    """
    random, dtype, threads = torch.get_rng_state(), torch.get_default_dtype(), torch.get_num_threads()
    path = list(sys.path)
    try:
        with warnings.catch_warnings(record=True) as seen, torch.enable_grad():
            warnings.simplefilter("always")
            if seed is not None:
                torch.default_generator.manual_seed(seed)
                torch.set_default_dtype(torch.float32)
                torch.set_num_threads(1)  # tensors are small: one thread is faster
            yield seen
    finally:
        sys.path[:] = path
        torch.set_default_dtype(dtype)
        torch.set_num_threads(threads)
        torch.set_rng_state(random)
