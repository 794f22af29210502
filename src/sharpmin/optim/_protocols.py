"""The three protocols that a SAM is made of, and what they may know of a step.

| protocol | decides | values |
|---|---|---|
| `Geometry` | the norm in which the ball is round | `_geometry.py` |
| `Ascent` | what to climb along | `_ascent.py` |
| `Descent` | what the base optimizer steps with | `_descent.py` |

Each is a frozen dataclass of pure functions; what it remembers is handed in and out.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, ClassVar

import torch
from torch import Tensor

from sharpmin.core.rho import Scalar

ParameterState = dict[Tensor, Tensor]
"""What an ascent or a descent remembers of every parameter between steps."""

Part = tuple[Sequence[Tensor], Sequence[Tensor], Scalar]
"""Some weights, a vector u for each, and c, which makes c u the unit vector of steepest ascent there."""

_NOTHING: Mapping[Any, Any] = MappingProxyType({})
_STREAM = 0x5A3D  # keeps these numbers apart from those of stochastic rounding, which are seeded by the step, too


@dataclass(frozen=True)
class Context:
    """One step, as the three protocols see it.

    Attributes:
        step: how many steps have been taken.
        group: the parameter group; for a descent, which combines all groups at once, the first.
        base_state: the state of the base optimizer, by parameter; to be read only.
        climb: the number of the ascent within the step, 0 but for later micro-batches of scope "microbatch".

    >>> [torch.rand(1, generator=Context(step=7).generator("cpu")).item() for _ in range(2)]  # the step is the seed
    [0.20..., 0.20...]
    """

    step: int = 0
    group: Mapping[str, Any] = field(default_factory=lambda: _NOTHING)
    base_state: Mapping[Tensor, Any] = field(default_factory=lambda: _NOTHING)
    climb: int = 0
    _generators: dict[torch.device, torch.Generator] = field(default_factory=dict, repr=False, compare=False)

    def generator(self, device: torch.device | str) -> torch.Generator:
        """Random numbers for this step on a device: the global random state is left alone, and ranks draw the same ones.

        Groups of one step draw from the same generator, one after the other.
        """
        device = torch.device(device)
        if device not in self._generators:
            seed = (self.step << 16) + self.climb
            self._generators[device] = torch.Generator(device).manual_seed((seed << 16) + _STREAM)
        return self._generators[device]

    def of(self, group: Mapping[str, Any]) -> Context:
        """The same step, seen from another group."""
        return Context(self.step, group, self.base_state, self.climb, self._generators)


@dataclass
class Metric(ABC):
    """A geometry at the weights and for the vectors of one parameter group in one step.

    Attributes:
        weights: each parameter that climbs, at w when `measure` and `steepest` are called.
        vectors: what it climbs along, of the same shape, in the same order.
    """

    weights: Sequence[Tensor]
    vectors: Sequence[Tensor]

    @abstractmethod
    def measure(self) -> Scalar:
        """The additive part of the dual norm of the vectors."""

    @abstractmethod
    def steepest(self, total: Scalar) -> Iterator[Tensor]:
        """The unit vector of steepest ascent, a tensor per weight; needs a finite, positive `total` on a CPU."""

    @abstractmethod
    def norm(self, weights: Sequence[Tensor], moves: Sequence[Tensor]) -> Scalar:
        """||e|| of moves of the weights, given as they are at w."""

    def parts(self, total: Scalar) -> Iterator[Part]:
        """The same for a few calls on lists: v = c u, a part of the weights at a time; a tensor at a time unless said."""
        for w, v in zip(self.weights, self.steepest(total), strict=True):
            yield [w], [v], 1.0


class Geometry(ABC):
    """What `SAM` asks of a norm.

    Attributes:
        shards: whether the shards of one tensor may be measured apart, as FSDP2 needs it.
    """

    shards: ClassVar[bool] = True

    @abstractmethod
    def at(self, weights: Sequence[Tensor], vectors: Sequence[Tensor], context: Context) -> Metric:
        """The norm of this step for one group: everything random or costly is decided here, once."""

    @abstractmethod
    def dual_norm(self, total: Scalar) -> Scalar:
        """The dual norm from the sum of all measures."""

    def joint(self, norms: Sequence[Scalar]) -> Scalar:
        """The norm of the whole from the norms of its groups; the Euclidean way unless a geometry says otherwise."""
        return norms[0] if len(norms) == 1 else sum(n**2 for n in norms) ** 0.5

    def share(self, measure: Scalar, total: Scalar) -> Scalar:
        """||v|| of the part of the unit vector that lies in one group; the Euclidean way unless a geometry says otherwise."""
        return (measure / total) ** 0.5


class Ascent(ABC):
    """A rule for the vector to climb along; `update` is pure, and its new state counts only if the step is taken.

    Attributes:
        needs_clean: whether it needs this step's gradient at w; if not, the step has one pass, the one at w + e.
        stateful: whether it remembers anything, which then goes into checkpoints.
        learns: whether it remembers the gradient that the base steps with; `learn` is then asked in every step.
    """

    needs_clean: ClassVar[bool] = True
    stateful: ClassVar[bool] = False
    learns: ClassVar[bool] = False

    def init(self) -> ParameterState:
        """The state before the first step."""
        return {}

    def learn(self, weights: Sequence[Tensor], grads: Sequence[Tensor], state: ParameterState) -> ParameterState:
        """The next state, from the gradients that the base is about to step with."""
        return state

    @abstractmethod
    def update(
        self, weights: Sequence[Tensor], grads: Sequence[Tensor | None], state: ParameterState, context: Context
    ) -> tuple[Sequence[Tensor | None], ParameterState]:
        """The vectors, None for a parameter that stays, and the next state."""

    def check(self, groups: Iterable[Mapping[str, Any]]) -> None:  # noqa: B027  # most rules take any group
        """Refuse parameter groups that the rule cannot work with."""


class Descent(ABC):
    """A rule for the gradient that is handed to the base optimizer, d = a g + b G, from g at w and G at w + e.

    Attributes:
        needs_clean: whether it needs g beside G, which then is kept through the second pass.
        stateful: whether it remembers anything, which then goes into checkpoints; it is then asked on steps of one pass, too.
    """

    needs_clean: ClassVar[bool] = True
    stateful: ClassVar[bool] = False

    def init(self) -> ParameterState:
        """The state before the first step."""
        return {}

    @abstractmethod
    def coefficients(
        self,
        weights: Sequence[Tensor],
        clean: Sequence[Tensor],
        perturbed: Sequence[Tensor] | None,
        state: ParameterState,
        context: Context,
    ) -> tuple[Scalar, Scalar, ParameterState]:
        """(a, b, next state); the new state counts only if the step is taken.

        On a step of one pass `perturbed` is None, and what the state holds of each parameter stands in for G: d = a g + b V.
        """
