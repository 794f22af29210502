"""Restores the torchmetrics of a module after the second pass, so that they count once a step.

Their states are no buffers, so SAM does not restore them.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from sharpmin.core.extras import optional

torchmetrics = optional("torchmetrics", extra="lightning")


@contextmanager
def kept(model: nn.Module) -> Iterator[None]:
    """A block after which every `torchmetrics.Metric` in `model` is restored, with the same tensors and lists.

    Raises:
        MissingExtraError: without torchmetrics.

    ```
    with kept(model):
        model.accuracy(logits, y)      # without effect
    ```
    """
    metrics = [vars(module) for module in model.modules() if isinstance(module, torchmetrics.Metric)]
    before = [{name: (value, _copy(value)) for name, value in own.items()} for own in metrics]
    try:
        yield
    finally:
        for own, saved in zip(metrics, before, strict=True):
            for name in own.keys() - saved.keys():
                del own[name]
            for name, (value, copy) in saved.items():
                _put_back(value, copy)
                own[name] = value


def _copy(value: Any) -> Any:
    """Copy lists and tensors, which an update may change in place; other values are returned as they are."""
    if isinstance(value, Tensor):
        return value.detach().clone()
    return list(value) if isinstance(value, list) else None


def _put_back(value: Any, copy: Any) -> None:
    if isinstance(value, Tensor):
        with torch.no_grad():
            value.copy_(copy)
    elif isinstance(value, list):
        value[:] = copy
