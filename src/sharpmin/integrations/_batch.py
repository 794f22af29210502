"""A batch for two passes: each gets its own containers, and the tensors must not change in between."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, MutableMapping
from dataclasses import fields, is_dataclass
from typing import Any

from torch import Tensor


def own(batch: Any) -> Any:
    """Copy the containers of a batch, so that a training step may pop entries; the tensors are shared.

    >>> batch = {"x": [1, 2], "y": {"z": 3}}
    >>> other = own(batch)
    >>> other["y"].pop("z"), other["x"].pop(), batch
    (3, 2, {'x': [1, 2], 'y': {'z': 3}})
    """
    if type(batch) in (list, tuple):
        return type(batch)(map(own, batch))
    if isinstance(batch, MutableMapping):
        mine = copy.copy(batch)
        for key, entry in batch.items():
            if (inner := own(entry)) is not entry:
                mine[key] = inner
        return mine
    return batch


class BatchSnapshot:
    """The tensors of a batch before its first pass.

    Args:
        batch: the batch: tensors in lists, tuples, mappings and dataclasses.
    """

    def __init__(self, batch: Any):
        self._versions = [(name, t, t._version) for name, t in _tensors(batch, "batch") if not t.is_inference()]

    def require_unchanged(self, user: str) -> None:
        """Raise if a tensor of the batch was written to since.

        Raises:
            ValueError: if a tensor was changed in place.

        >>> import torch
        >>> x = torch.ones(2, 3)
        >>> seen = BatchSnapshot({"x": [x]})
        >>> seen.require_unchanged("LightningSAM")
        >>> _ = x.mul_(2)
        >>> seen.require_unchanged("LightningSAM")
        Traceback (most recent call last):
            ...
        ValueError: LightningSAM: batch['x'][0] of shape (2, 3) was changed in place after its first pass began, ...
        """
        for name, t, version in self._versions:
            if t._version != version:
                raise ValueError(
                    f"{user}: {name} of shape {tuple(t.shape)} was changed in place after its first pass began, so the second "
                    "pass would see another batch; change a copy (x = x / 255, or x = x.clone() first), and let the loader "
                    "hand out a new tensor for each batch"
                )


def _tensors(value: Any, name: str) -> Iterator[tuple[str, Tensor]]:
    """Every tensor, with its path in the batch."""
    if isinstance(value, Tensor):
        yield name, value
    elif isinstance(value, Mapping):
        for key, entry in value.items():
            yield from _tensors(entry, f"{name}[{key!r}]")
    elif isinstance(value, (list, tuple)):
        for k, entry in enumerate(value):
            yield from _tensors(entry, f"{name}[{k}]")
    elif is_dataclass(value) and not isinstance(value, type):
        for field in fields(value):
            yield from _tensors(getattr(value, field.name), f"{name}.{field.name}")
