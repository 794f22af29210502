"""Memory that an optimizer holds during a run, counted over all live tensors."""

from __future__ import annotations

import gc

from torch import Tensor, nn

LOOKS = 4
"""Steps that are counted; the first one is left out."""


class MemoryMeter:
    """Counts memory at two moments: before the second step, and before the second pass of the second step that has one.

    Tensors that existed before are not counted, so it must be made before the model; `copies` ends the counting. The two steps
    after it are counted as well, and the least of the three is taken: a profiler of another thread, as in a worker of Dask,
    may hold tensors of an earlier pass for a moment.
    """

    def __init__(self) -> None:
        gc.freeze()
        self._found: tuple[list[int], list[int]] = [], []

    def look(self, done: int, batch: Tensor) -> None:
        """Call this before a pass; `done` passes of this step are done."""
        found = self._found[done]
        if len(found) < LOOKS:
            found.append(_alive(but=batch))

    def copies(self, model: nn.Module) -> float:
        """The most that was found beyond the weights, their gradients and the buffers, in units of the weights."""
        gc.unfreeze()
        weights = sum(p.nbytes for p in model.parameters())
        most = max(min(found[1:], default=0) for found in self._found)
        return round((most - 2 * weights - sum(b.nbytes for b in model.buffers())) / weights, 1)


def _alive(but: Tensor) -> int:
    """Bytes of all floating-point tensors that Python knows, except one, and of their gradients; each storage counts once."""
    gc.collect()  # else tensors in reference cycles might count or not
    storages: dict[int, int] = {}
    for thing in gc.get_objects():
        if type(thing) in (Tensor, nn.Parameter) and thing.is_floating_point() and thing is not but:
            for t in (thing, thing.grad if thing.is_leaf else None):
                if t is not None:
                    storages[t.untyped_storage().data_ptr()] = t.untyped_storage().nbytes()
    return sum(storages.values())
