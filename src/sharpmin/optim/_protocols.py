"""The three protocols that a SAM is made of, and what they may know of a step.

| protocol | decides | values |
|---|---|---|
| `Geometry` | the norm in which the ball is round | `_geometry.py` |
| `Ascent` | what to climb along | `_ascent.py` |
| `Descent` | what the base optimizer steps with | `_descent.py` |

Each is a frozen dataclass of pure functions; its state is passed in and returned.
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
"""The state of an ascent or a descent: a tensor for each parameter."""

Part = tuple[Sequence[Tensor], Sequence[Tensor], Scalar]
"""Weights, a vector u for each, and c; c u is the unit vector of steepest ascent for these weights."""

_NOTHING: Mapping[Any, Any] = MappingProxyType({})
_STREAM = 0x5A3D  # another stream than that of stochastic rounding, which is seeded by the step, too


@dataclass(frozen=True)
class Context:
    """One step, as the three protocols see it.

    Attributes:
        step: how many steps have been taken.
        group: the parameter group; for a descent, which combines all groups at once, the first.
        base_state: the state of the base optimizer, by parameter; to be read only.
        climb: the number of the perturbation within the step: 0, 1, ... over the micro-batches of scope "microbatch".

    >>> [torch.rand(1, generator=Context(step=7).generator("cpu")).item() for _ in range(2)]  # the step is the seed
    [0.20..., 0.20...]
    """

    step: int = 0
    group: Mapping[str, Any] = field(default_factory=lambda: _NOTHING)
    base_state: Mapping[Tensor, Any] = field(default_factory=lambda: _NOTHING)
    climb: int = 0
    _generators: dict[torch.device, torch.Generator] = field(default_factory=dict, repr=False, compare=False)

    def generator(self, device: torch.device | str) -> torch.Generator:
        """A generator seeded by the step; the global random state is unchanged, and all ranks draw the same numbers.

        The groups of a step share it, one after the other.
        """
        device = torch.device(device)
        if device not in self._generators:
            seed = (self.step << 16) + self.climb
            self._generators[device] = torch.Generator(device).manual_seed((seed << 16) + _STREAM)
        return self._generators[device]

    def of(self, group: Mapping[str, Any]) -> Context:
        """The context of the same step for another group."""
        return Context(self.step, group, self.base_state, self.climb, self._generators)


@dataclass
class Metric(ABC):
    """A geometry at given weights and vectors: one parameter group in one step.

    Attributes:
        weights: each parameter that climbs, at w when `measure` and `steepest` are called.
        vectors: the ascent's vector for each weight, of its shape.
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
        """||e|| of the moves e of these weights, which have their values at w."""

    def parts(self, total: Scalar) -> Iterator[Part]:
        """`steepest` in parts (weights, u, c) with v = c u, for arithmetic on lists; by default one tensor a part."""
        for w, v in zip(self.weights, self.steepest(total), strict=True):
            yield [w], [v], 1.0


class Geometry(ABC):
    """The norm of the ball.

    Attributes:
        shards: whether `measure` of the shards of a tensor adds up to that of the tensor, as FSDP2 needs it.
    """

    shards: ClassVar[bool] = True

    @abstractmethod
    def at(self, weights: Sequence[Tensor], vectors: Sequence[Tensor], context: Context) -> Metric:
        """The metric of this step for one group; called once a step, so random or costly work belongs here."""

    @abstractmethod
    def dual_norm(self, total: Scalar) -> Scalar:
        """The dual norm from the sum of all measures."""

    def joint(self, norms: Sequence[Scalar]) -> Scalar:
        """The norm over all groups from the norms of the groups; Euclidean by default."""
        return norms[0] if len(norms) == 1 else sum(n**2 for n in norms) ** 0.5

    def share(self, measure: Scalar, total: Scalar) -> Scalar:
        """||v|| of the unit vector's part in one group; Euclidean by default."""
        return (measure / total) ** 0.5


class Ascent(ABC):
    """A rule for the vector to climb along; `update` is pure, and its new state counts only if the step is taken.

    Attributes:
        needs_clean: whether it needs this step's gradient at w; if not, a step has one pass, at w + e.
        stateful: whether it has a state, which goes into checkpoints.
        learns: whether its state depends on the gradient that the base steps with; `learn` is then called in every step.
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
        """Return the vectors, None for a parameter that is not perturbed, and the next state."""

    def check(self, groups: Iterable[Mapping[str, Any]]) -> None:  # noqa: B027  # most rules take any group
        """Raise `ValueError` for parameter groups that the rule cannot work with."""


class Descent(ABC):
    """A rule for the gradient that is handed to the base optimizer, d = a g + b G, from g at w and G at w + e.

    Attributes:
        needs_clean: whether it needs g, which is then kept through the second pass.
        stateful: whether it has a state, which goes into checkpoints; it is then called on steps of one pass, too.
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

        On a step of one pass `perturbed` is None, and the state V of each parameter takes the place of G: d = a g + b V.
        """
