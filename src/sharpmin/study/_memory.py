"""MemoryMeter of an optimizer during a run, counted over all live tensors."""

from __future__ import annotations

import gc

from torch import Tensor, nn


class MemoryMeter:
    """Counts memory at two moments: before the second step, and before the second pass of the second step that has one.

    Tensors that existed before are not counted, so it must be made before the model; `copies` ends the counting.
    """

    def __init__(self) -> None:
        gc.freeze()
        self._seen, self._most = [0, 0], 0

    def look(self, done: int, batch: Tensor) -> None:
        """Call this before a pass; `done` passes of this step are done."""
        self._seen[done] += 1
        if self._seen[done] == 2:
            self._most = max(self._most, _alive(but=batch))

    def copies(self, model: nn.Module) -> float:
        """The most that was found beyond the weights, their gradients and the buffers, in units of the weights."""
        gc.unfreeze()
        weights = sum(p.nbytes for p in model.parameters())
        return round((self._most - 2 * weights - sum(b.nbytes for b in model.buffers())) / weights, 1)


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
