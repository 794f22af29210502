"""Kernels that differentiate in evaluation mode, where torch prefers ones for inference."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn


@contextmanager
def plain_kernels(model: nn.Module) -> Iterator[None]:
    """Kernels that differentiate in evaluation mode: no fused encoder layer, and no cuDNN where there are recurrent nets."""
    mha = torch.backends.mha
    fast = mha.get_fastpath_enabled()
    recurrent = any(isinstance(module, nn.RNNBase) for module in model.modules())
    with torch.backends.cudnn.flags(enabled=False) if recurrent else contextlib.nullcontext():
        mha.set_fastpath_enabled(False)
        try:
            yield
        finally:
            mha.set_fastpath_enabled(fast)
