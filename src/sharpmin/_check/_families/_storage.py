"""Weights stay where they are in memory, and count once."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from .._case import NotOffered, family, raised, require
from .._trial import CLOSE, Quadratic, Trial, backward, near, show


@family(
    "storage",
    "Weights keep their memory: flat buffers, shared memory, data_ptr",
    right="same data_ptr in both passes and after, the flat buffer holds the weights, still shared",
    fix="write into the weights in place (copy_), never bind p.data anew",
    faults=(6,),
)
def storage(t: Trial) -> str:
    """Two parameters that are views into one buffer, and one in shared memory."""
    buffer = torch.tensor([3.0, 1.0, 2.0])
    a, b = nn.Parameter(buffer[:2]), nn.Parameter(buffer[2:])
    shared: Any = torch.ones(2)  # its methods are untyped in torch
    c: Any = nn.Parameter(shared.share_memory_())
    weights: list[Any] = [a, b, c]
    pointers, inside = [w.data_ptr() for w in weights], []

    def run(_: int) -> Tensor:
        inside.append([w.data_ptr() for w in weights])
        loss = torch.stack([(w**2).sum() for w in weights]).sum() / 2
        return backward(loss)

    t.step(t.make(weights), run)
    require(all(seen == pointers for seen in inside), "data_ptr changes between the passes")
    require([w.data_ptr() for w in weights] == pointers, "data_ptr changes with the step")
    require(
        torch.equal(buffer, torch.cat([a.detach(), b.detach()])),
        f"the buffer holds {show(buffer)}, the weights are {show([a, b])}",
    )
    require(c.is_shared(), "the weights in shared memory are not shared any more")
    return "unchanged"


class _Tied(nn.Module):
    """The golden function with its first weight under two names."""

    def __init__(self) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.tensor([3.0, 1.0], dtype=torch.float64))
        self.again = self.w


@family(
    "tied-weights",
    "A weight under two names is perturbed once",
    right="second pass at (3.3, 1.4), w' = (2.67, 0.44)",
    fix="go through each parameter once",
    faults=(6,),
)
def tied_weights(t: Trial) -> str:
    """The length of e is rho whatever the module calls its weights."""
    net = _Tied()
    f = Quadratic(net.w)
    t.step(t.make(list(net.parameters()), model=net), f)
    seen = f"second pass at {show(f.visited[-1])}, w' = {show(net.w)}"
    require(near(f.visited[-1], (3.3, 1.4), CLOSE) and near(net.w, (2.67, 0.44), CLOSE), seen)
    return seen


@family(
    "sparse-embedding",
    "An embedding with sparse gradients",
    right="rows (0, 3.56, 2.67, 9)",
    fix="take norm and perturbation from the coalesced values of a sparse gradient",
    faults=(3,),
)
def sparse_embedding(t: Trial) -> str:
    """Rows 4 and 3 take part: the gradient is (4, 3), its norm 5, e = (0.4, 0.3)."""
    table = nn.Embedding(4, 1, sparse=True)
    with torch.no_grad():
        table.weight.copy_(torch.tensor([[0.0], [4.0], [3.0], [9.0]]))

    def run(_: int) -> Tensor:
        loss: Tensor = table(torch.tensor([1, 2])).square().sum() / 2
        return backward(loss)

    try:
        t.step(t.make(list(table.parameters()), model=table), run)
    except Exception as error:
        if "sparse" in f"{type(error).__name__} {error}".lower():
            raise NotOffered(f"refuses sparse gradients, or the operations on them: {raised(error)}") from None
        raise
    require(near(table.weight.flatten(), (0.0, 3.56, 2.67, 9.0), 1e-5), f"rows {show(table.weight)}")
    return f"rows {show(table.weight)}"
