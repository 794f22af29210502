"""Random states: both passes of a step draw the same dropout masks, and a step advances the generators like one pass.

The default generators of the CPU and of the devices that hold parameters. Python's `random`, NumPy and generators made by the
user are not covered.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor


class RandomState:
    """The states of the default generators.

    >>> state = RandomState([])
    >>> first = torch.rand(2)
    >>> state.put_back()
    >>> torch.equal(first, torch.rand(2))
    True
    """

    def __init__(self, parameters: Iterable[Tensor]):
        devices = {p.device for p in parameters if p.device.type not in ("cpu", "meta")}
        self._cpu = torch.get_rng_state()
        self._devices = {device: torch.get_device_module(device.type).get_rng_state(device) for device in devices}

    def restart(self, seed: int) -> None:
        """Seed every generator."""
        torch.set_rng_state(torch.Generator("cpu").manual_seed(seed).get_state())
        for device in self._devices:
            state = torch.Generator(device).manual_seed(seed).get_state()
            torch.get_device_module(device.type).set_rng_state(state, device)

    def put_back(self) -> None:
        """Restore every generator to the stored state."""
        torch.set_rng_state(self._cpu)
        for device, state in self._devices.items():
            torch.get_device_module(device.type).set_rng_state(state, device)


@contextmanager
def seeded(parameters: Iterable[Tensor], seed: int) -> Iterator[None]:
    """A block in which the default generators are seeded; afterwards they continue as before.

    >>> before = torch.get_rng_state()
    >>> with seeded([], 7):
    ...     a = torch.rand(2)
    >>> with seeded([], 7):
    ...     b = torch.rand(2)
    >>> torch.equal(a, b), torch.equal(before, torch.get_rng_state())
    (True, True)
    """
    state = RandomState(parameters)
    try:
        state.restart(seed)
        yield
    finally:
        state.put_back()
