"""The names of the autograd nodes that a tensor was computed by."""

from __future__ import annotations

from collections.abc import Iterable

from torch import Tensor


def nodes(tensors: Iterable[Tensor]) -> set[str]:
    """The names of all nodes in the graphs of `tensors`.

    >>> import torch
    >>> w = torch.ones(2, requires_grad=True)
    >>> sorted(nodes([(w * w).sum()]))
    ['MulBackward0', 'SumBackward0', 'torch::autograd::AccumulateGrad']
    """
    todo = [t.grad_fn for t in tensors if t.grad_fn is not None]
    seen = set(todo)
    while todo:
        following = {node for node, _ in todo.pop().next_functions if node is not None} - seen
        seen |= following
        todo += following
    return {node.name() for node in seen}
