"""Buffers such as BatchNorm statistics change once a step: their values are restored after the second pass.

By copy, not by tricks with momentum: that serves BatchNorm with any momentum, spectral norm, moving-average codebooks and
observers alike, and costs no recompilation. A buffer that the forward pass replaces instead of changing is bound again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from .._numeric.tensors import clone_all, copy_all

BufferFilter = Callable[[str, Tensor], bool]
"""Called with a buffer's full name and the buffer; False leaves it alone."""

Modules = Sequence[tuple[str, nn.Module]]
"""All modules of a model by name; collected once a step, since walking through the model is slow."""


@dataclass
class _Kept:
    module: nn.Module
    name: str
    buffer: Tensor | None


class Buffers:
    """A copy of the buffers of a model.

    >>> bn = nn.BatchNorm1d(1)
    >>> kept = Buffers(bn)
    >>> _ = bn(torch.tensor([[1.0], [3.0]]))
    >>> kept.put_back()
    >>> bn.running_mean, bn.num_batches_tracked
    (tensor([0.]), tensor(0))
    """

    def __init__(self, model: nn.Module, keep: BufferFilter | None = None, modules: Modules | None = None):
        self._kept: list[_Kept] = []
        for prefix, module in model.named_modules() if modules is None else modules:
            for name, buffer in module._buffers.items():
                if buffer is None or keep is None or keep(f"{prefix}.{name}" if prefix else name, buffer):
                    self._kept.append(_Kept(module, name, buffer))
        distinct = {id(kept.buffer): kept.buffer for kept in self._kept if kept.buffer is not None}  # modules may share buffers
        self._buffers = list(distinct.values())
        self._copies = clone_all([buffer.detach() if buffer.requires_grad else buffer for buffer in self._buffers])

    @torch.no_grad()
    def put_back(self) -> None:
        """Restore the value and the identity of every buffer."""
        pairs = [(buffer, copy, own_entries(buffer)) for buffer, copy in zip(self._buffers, self._copies, strict=True)]
        copy_all([b if own is None else b[own] for b, _, own in pairs], [c if own is None else c[own] for _, c, own in pairs])
        for kept in self._kept:
            if kept.module._buffers.get(kept.name) is not kept.buffer:
                kept.module._buffers[kept.name] = kept.buffer


def own_entries(t: Tensor) -> tuple[slice, ...] | None:
    """One entry along every expanded dimension, since copying into an expanded tensor is refused; None if there is none."""
    if 0 not in t.stride() or t.numel() < 2:
        return None
    return tuple(
        slice(0, 1) if stride == 0 and size > 1 else slice(None) for stride, size in zip(t.stride(), t.shape, strict=True)
    )
