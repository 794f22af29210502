"""What SAM reads from and writes to the base's parameter groups: radii, counts, parameters and gradients."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from torch import Tensor
from torch.optim.optimizer import Optimizer

from sharpmin.core.rho import Rho, RhoSchedule, as_schedule

from . import _gradients
from ._bases import bases_of
from ._checkpoint import CLIMBED, COUNT, MEMORY, PASSES, SCOPE, own_rho
from ._gradients import Pairs
from ._numeric.kinds import on_host
from ._numeric.sums import sum_of_squares

Active = Sequence[tuple[dict[str, Any], RhoSchedule]]
"""The groups whose radius can be positive at this step, with their schedules."""


class Groups:
    """A view of the base's parameter groups; nothing is cached, so changes by the user are seen at once.

    Attributes:
        base: the base optimizer.
        rho: the radius of a group that has none of its own.
        counts: steps, climbed steps and passes so far, written to groups that the user puts in place of others.
    """

    def __init__(self, base: Optimizer, rho: Rho):
        self.base, self.rho, self.counts = base, rho, dict.fromkeys((COUNT, CLIMBED, PASSES), 0)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return iter(self.base.param_groups)

    def parameters(self) -> Iterator[Tensor]:
        """Every parameter."""
        return _gradients.parameters_of(self.base.param_groups)

    def gradients(self) -> Pairs:
        """Every parameter that has a gradient, with it."""
        return _gradients.gradients_of(self.base.param_groups)

    def put(self, pairs: Pairs) -> None:
        """Set these gradients and clear all others."""
        _gradients.put(self.base.param_groups, pairs)

    def adopt(self, group: dict[str, Any]) -> None:
        """Add rho and the counts to a group that lacks them."""
        group["rho"] = own_rho(group, self.rho)
        for name in self.counts:
            group.setdefault(name, self._of(name))
        for name, number in memory_of(group, as_schedule(own_rho(group, self.rho))).items():
            group.setdefault(MEMORY + name, number)

    def _of(self, name: str) -> int:
        return max([group[name] for group in self.base.param_groups if name in group], default=self.counts[name])

    def count(self) -> int:
        """The number of steps taken, which is the `step` of the schedules."""
        return self._of(COUNT)

    def climbed(self) -> int:
        """How many steps took their gradient at w + e."""
        return self._of(CLIMBED)

    def passes(self) -> int:
        """The gradient evaluations of all steps."""
        return self._of(PASSES)

    def take_step(self, *, climbed: bool, passes: int) -> None:
        """Count one more step."""
        added = {COUNT: 1, CLIMBED: int(climbed), PASSES: passes}
        self.counts = {name: self._of(name) + more for name, more in added.items()}
        for group in self:
            group.update(self.counts)

    def take_over(self, saved: Sequence[Mapping[str, Any]], live: Sequence[Rho]) -> None:
        """Write saved numbers to the groups after a load: radii, counts, and what schedules remember."""
        for group, own, rho in zip(self, saved, live, strict=True):
            group["rho"] = rho if isinstance(rho, RhoSchedule) else own_rho(own, rho)
            group.update({name: int(own.get(name, 0)) for name in self.counts})
            group.update({MEMORY + name: number for name, number in memory_of(own, as_schedule(rho)).items()})
            group.pop(SCOPE, None)

    def radii(self) -> list[Rho]:
        """The radius of every group."""
        return [own_rho(group, self.rho) for group in self]

    def set_radius(self, rho: Rho) -> None:
        """One radius for all groups, present and to come."""
        as_schedule(rho, "SAM")
        self.rho = rho
        for group in self:
            group["rho"] = rho

    def active(self) -> Active:
        """The groups whose radius can be positive at this step."""
        count, pairs = self.count(), [(g, as_schedule(own_rho(g, self.rho), "SAM")) for g in self.base.param_groups]
        return [(group, rho) for group, rho in pairs if rho.active(count, group.get("lr", 0.0))]

    def rest(self) -> bool:
        """Whether every lr and every gradient is zero, so that a step only creates the base's state and is not counted.

        `torch.distributed.checkpoint` takes such steps before it saves and loads.
        """
        rates = [group.get("lr", 1.0) for group in self]
        if any((not on_host([lr]) or lr.item()) if isinstance(lr, Tensor) else lr for lr in rates):
            return False
        return bool(sum_of_squares([g for _, g in self.gradients()]) == 0)

    def clear_store_of_base(self) -> None:
        """Call an overridden `zero_grad` of the base, which may store gradients outside `p.grad`; `p.grad` is kept."""
        if all(type(base).zero_grad is Optimizer.zero_grad for base in bases_of(self.base)):
            return
        start = self.gradients()
        self.put([])
        self.base.zero_grad()
        self.put(start)


def memory_of(group: Mapping[str, Any], schedule: RhoSchedule) -> dict[str, float]:
    """The numbers that the schedule remembers in this group; 0 before its first step."""
    return {name: float(group.get(MEMORY + name, 0.0)) for name in schedule.remembers}


def check_group(group: Mapping[str, Any], rho: Rho, base: Optimizer) -> None:
    """Raise for a group that cannot be perturbed, before anything has changed."""
    as_schedule(own_rho(group, rho), "SAM")
    name = type(base).__name__
    if group.get("differentiable", base.defaults.get("differentiable")):
        raise ValueError(
            f"SAM: {name} has a group with differentiable=True, which forbids moving the weights in place; "
            "make it with differentiable=False"
        )
    if "adaptive" in group and "adaptive" not in base.defaults:
        raise ValueError(
            'SAM: a group has "adaptive", which does nothing; adaptive SAM is another geometry, for all groups: '
            "sharpmin.asam(base, rho=0.5)"
        )


def check_earlier(group: Mapping[str, Any], rho: Rho) -> None:
    """Refuse a base whose groups hold another rho from an earlier SAM or checkpoint, which would override `rho`."""
    if COUNT in group and own_rho(group, rho) != rho:
        raise ValueError(
            f"SAM: rho={rho!r} was given, but a group of the base holds rho={group['rho']!r} from an earlier SAM or its "
            'checkpoint, and group["rho"] overrides; give that rho, or remove it first: del group["rho"]'
        )
