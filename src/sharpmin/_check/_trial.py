"""One optimizer under test through one door, and the small functions and nets that the families train."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from sharpmin.core.errors import PhaseError

from ._case import Fault, NotOffered, raised
from ._doors import DOORS, Run
from ._subject import Subject

SGD, Adam, AdamW = torch.optim.SGD, torch.optim.Adam, torch.optim.AdamW


@dataclass(frozen=True)
class Trial:
    """The argument of a family: it constructs optimizers and takes steps with them.

    Attributes:
        subject: what is under test.
        door: the door to drive it through.
        warnings: the messages of the warnings given so far.
    """

    subject: Subject
    door: str
    warnings: Callable[[], Sequence[str]]

    @property
    def ours(self) -> bool:
        """Whether it is `sharpmin.SAM`."""
        return self.subject.ours

    def make(
        self,
        params: Any,
        rho: float = 0.5,
        *,
        base: type[torch.optim.Optimizer] = SGD,
        lr: float = 0.1,
        options: Mapping[str, Any] | None = None,
        model: nn.Module | None = None,
    ) -> Any:
        """A new optimizer under test around a new base; if others raise at construction, the scenario is not offered."""
        model = Holder(params) if model is None else model
        try:
            return self.subject.build(params, base, rho, {"lr": lr, **(options or {})}, model)
        except (ValueError, NotImplementedError) as error:
            if self.ours:
                raise
            raise NotOffered(f"refuses to be constructed like this: {raised(error)}") from None

    def step(self, opt: Any, run: Run) -> Any:
        """One SAM step; `run(k)` is forward and backward of pass k."""
        return DOORS[self.door](opt, run)

    def go_on(self, opt: Any, run: Run) -> Any:
        """The step after one that an exception ended. Ours may refuse it by a `PhaseError`; then `abort()` is the way back."""
        try:
            return self.step(opt, run)
        except PhaseError:
            opt.abort()
            return self.step(opt, run)

    def need_model(self, left: str = "buffers are") -> None:
        """Raise `NotOffered` unless the optimizer takes the model; `left` names what is left to the caller without it."""
        if not self.subject.takes_model:
            raise NotOffered(f"takes no model, so {left} left to the caller")

    def need(self, opt: Any, *names: str) -> None:
        """Raise `NotOffered` unless the optimizer has these methods."""
        for name in names:
            if not callable(getattr(opt, name, None)):
                raise NotOffered(f"has no {name}()")


CLOSE = 1e-6  # for hand calculations; families that claim exactness compare bits


class Holder(nn.Module):
    """A module around bare parameters, for optimizers that take a model."""

    def __init__(self, params: Any):
        super().__init__()
        for i, p in enumerate(flat(params)):
            self.register_parameter(f"p{i}", p)


def flat(params: Any) -> list[nn.Parameter]:
    """The parameters in a list of parameters or of groups."""
    return [p for entry in params for p in (entry["params"] if isinstance(entry, dict) else [entry])]


@dataclass
class Quadratic:
    """f(w) = (w1^2 + 4 w2^2) / 2 from (3, 1), whose SAM step at rho 0.5 and lr 0.1 ends at (2.67, 0.44).

    Attributes:
        w: the weights.
        visited: the weights at every pass.
        spoil: changes the gradients of a pass, given its number.
    """

    w: nn.Parameter
    visited: list[Tensor] = field(default_factory=list)
    spoil: Callable[[int], None] | None = None
    sign: float = 1.0

    @classmethod
    def new(cls, dtype: torch.dtype = torch.float64) -> Quadratic:
        """A new one at the starting point."""
        return cls(nn.Parameter(torch.tensor([3.0, 1.0], dtype=dtype)))

    def loss(self) -> Tensor:
        """f at the weights, times `sign`."""
        return self.sign * (self.w[0] ** 2 + 4 * self.w[1] ** 2) / 2

    def __call__(self, k: int) -> Tensor:
        self.visited.append(self.w.detach().clone())
        loss = self.loss()
        backward(loss)
        if self.spoil is not None:
            self.spoil(k)
        return loss

    def reset(self) -> None:
        """Back to the start, in place."""
        with torch.no_grad():
            self.w.copy_(torch.tensor([3.0, 1.0]))


class Training:
    """A small network on fixed data, with BatchNorm and with Dropout if they are asked for."""

    def __init__(self, *, normed: bool = False, dropout: bool = False) -> None:
        torch.default_generator.manual_seed(1)
        between = [nn.BatchNorm1d(6)] * normed + [nn.Dropout(0.5)] * dropout
        self.net = nn.Sequential(nn.Linear(4, 6), *between, nn.Tanh(), nn.Linear(6, 3))
        self.x, self.y = torch.randn(16, 4), torch.randint(3, (16,))
        self.forwards = 0

    def loss(self) -> Tensor:
        """The loss of one forward pass."""
        self.forwards += 1
        return nn.functional.cross_entropy(self.net(self.x), self.y)


def backward(loss: Tensor) -> Tensor:
    """`loss.backward()`, and the loss."""
    torch.autograd.backward(loss)
    return loss


def give(gradients: Mapping[nn.Parameter, Tensor | None]) -> None:
    """Add gradients to the parameters as backward would."""
    for p, g in gradients.items():
        p.grad = g


def near(t: Tensor, right: Sequence[float], tolerance: float) -> bool:
    """Whether every entry is within `tolerance`; nan is not."""
    return bool(((t.detach().double() - torch.tensor(right, dtype=torch.float64)).abs() <= tolerance).all())


def same(a: Any, b: Any) -> bool:
    """Whether two nested structures agree, tensors bit for bit."""
    if isinstance(a, Tensor) and isinstance(b, Tensor):
        return a.dtype == b.dtype and a.shape == b.shape and torch.equal(_bits(a), _bits(b))
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple) and isinstance(b, list | tuple):
        return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))
    return bool(a == b)


def _bits(t: Tensor) -> Tensor:
    return t.detach().cpu().contiguous().reshape(-1).view(torch.uint8)


def copies(params: Any) -> list[Tensor]:
    """The values of parameters, to be compared later."""
    return [p.detach().clone() for p in params]


def show(value: Tensor | Sequence[Tensor]) -> str:
    """Format numbers, at most four.

    >>> show(torch.tensor([2.67, 0.44]))
    '(2.67, 0.44)'
    """
    listed = [value] if isinstance(value, Tensor) else list(value)
    numbers = [f"{x:.6g}" for t in listed for x in t.detach().double().reshape(-1)[:5].tolist()]
    if len(numbers) == 1:
        return numbers[0]
    return f"({', '.join(numbers[:4])}{', ...' if len(numbers) > 4 else ''})"


def difference(ours: Sequence[Tensor], theirs: Sequence[Tensor]) -> str:
    """The largest difference of two lists of tensors, as text."""
    pairs = ((a, b) for a, b in zip(ours, theirs, strict=True) if a.numel())  # a rank may hold no part of a weight
    largest = max((float((a.double() - b.double()).abs().max()) for a, b in pairs), default=0.0)
    return f"{largest:.2g}"


def second_pass(visited: Sequence[Tensor]) -> Tensor:
    """The weights at which the second pass ran."""
    if len(visited) != 2:
        raise Fault(f"{len(visited)} gradient evaluations in one step", "2 gradient evaluations in one step")
    return visited[1]
