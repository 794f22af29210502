"""Random states: both passes of a step see the same dropout mask, and the step leaves the generators as one pass does.

The default generators of the CPU and of the devices that hold parameters. Python's `random`, NumPy and generators of one's own
are out of reach.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor


class RandomState:
    """The default generators at one moment.

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

    def put_back(self) -> None:
        """Set every generator to this moment."""
        torch.set_rng_state(self._cpu)
        for device, state in self._devices.items():
            torch.get_device_module(device.type).set_rng_state(state, device)
