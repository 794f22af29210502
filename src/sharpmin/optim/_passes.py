"""Base, settings and state of a SAM in one object, which proxies of the optimizer (Accelerate, Lightning) share.

```
plan     first gradients -> Perturbation (groups, norm, radii) -> StepOutcome           _plan.py
depart   Trip -> what the second pass must not change is set aside -> the weights move   _trip.py
restore  the weights come back -> the gradient to descend along                      _trip.py
descend  the base steps -> remember                                                  _stepping.py
```
"""

from __future__ import annotations

from typing import Any, Protocol
from weakref import ref

from torch.optim.optimizer import Optimizer

from sharpmin.core.rho import Rho, as_schedule

from . import _base_state as base_state
from . import _checkpoint as checkpoint
from . import _messages as messages
from ._bases import load
from ._checkpoint import own_rho
from ._effects import guard
from ._effects.report import StepReport, read
from ._effects.rng import RandomState
from ._groups import Groups, check_earlier, check_group
from ._protocols import Context
from ._second_pass import Watcher
from ._settings import Settings
from ._state import SAMState, require_unperturbed


class SecondPassCheck(Protocol):
    """An object that checks the second pass against the first, such as `FunctionalLoss`."""

    def require_complete(self) -> None:
        """Raise `PhaseError` at the end of a second pass that was not what the first one was."""


class Passes:
    """The groups of the base, the settings, and the state, which holds all that changes from step to step."""

    def __init__(self, groups: Groups, settings: Settings):
        self.groups, self.settings = groups, settings
        self.state = SAMState()
        self.watchers: list[Watcher] = []
        self.checks: list[ref[SecondPassCheck]] = []

    @classmethod
    def of(cls, base: Optimizer, rho: Rho, settings: Settings) -> Passes:
        """Check base, rho and settings, then add SAM's entries to the groups; an error leaves everything unchanged."""
        as_schedule(rho, "SAM")
        groups = Groups(base, rho)
        for group in groups:
            check_group(group, rho, base)
            check_earlier(group, rho)
        settings.ascent.check(groups)
        settings.check(groups.parameters())
        settings.check_radii(groups.radii())
        guard.bring_back(groups.parameters())
        for group in groups:
            groups.adopt(group)
        return cls(groups, settings)

    def add_check(self, check: SecondPassCheck) -> None:
        """Call this object at the end of every second pass; it is held by a weak reference."""
        self.checks = [*(d for d in self.checks if d() is not None), ref(check)]

    def require_complete(self) -> None:
        """Call every object that checks second passes."""
        for check in self.checks:
            if (alive := check()) is not None:
                alive.require_complete()

    def give_up(self) -> None:
        """Abort a step that failed while the weights are w: drop its gradients."""
        self.state.give_up()
        self.groups.put([])

    def report(self) -> StepReport:
        """What the last step did."""
        counts = {"steps": self.groups.count(), "climbed": self.groups.climbed(), "total_passes": self.groups.passes()}
        report = read({**self.state.record, **counts})
        messages.warn_of_rounding(self.state, report.gain, self.settings.rounding)
        return report

    def warn_idle(self, owner: str) -> None:
        """At the end of a run, warn if no step was perturbed although rho was not 0."""
        messages.warn_idle(self.state, self.groups, owner)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "watchers": [], "checks": []}  # watchers of the original do not watch the copy

    def context(self) -> Context:
        """The context of this step for geometry, ascent and descent."""
        first = next(iter(self.groups), {})
        return Context(self.groups.count(), first, self.groups.base.state, self.state.step.climbs)

    def require_unperturbed(self, call: str) -> None:
        """Raise `PhaseError` if the weights are perturbed."""
        require_unperturbed(self.state, call)

    def state_dict(self) -> dict[str, Any]:
        """The base's state dict with SAM's entries."""
        memory = self.state.memory
        remembered = {"ascent": memory.ascent, "descent": memory.descent}
        base_state, scope = self.groups.base.state_dict(), self.settings.scope
        return checkpoint.saved(base_state, scope, remembered, list(self.groups))

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load a checkpoint, after checking all of it."""
        state, settings, live = self.state, self.settings, self.groups.radii()
        base = self.groups.base
        checkpoint.check(state_dict, list(self.groups), has_groups=lambda: "param_groups" in base.state_dict())
        base_state.check(state_dict, base)
        saved = checkpoint.groups_of(state_dict, list(self.groups))
        checkpoint.warn_of_scope(saved, settings.scope)
        with base_state.all_or_nothing(base):
            load(base, {k: v for k, v in state_dict.items() if k != checkpoint.KEY})
        state.forget_step()  # gradients from before the load do not count
        for name, part in (("ascent", settings.ascent), ("descent", settings.descent)):
            memory = checkpoint.memory_of(state_dict, name, list(self.groups.parameters())) if part.stateful else part.init()
            setattr(state.memory, name, memory)
        self.groups.take_over(saved, live)

    def add_group(self, group: dict[str, Any]) -> None:
        """Check a group and add it to the base."""
        base = self.groups.base
        check_group(group, self.groups.rho, base)
        self.settings.ascent.check([{**base.defaults, **group}])
        self.settings.check_radii([own_rho(group, self.groups.rho)])
        base.add_param_group(group)
        self.groups.adopt(base.param_groups[-1])

    def zero_grad(self, set_to_none: bool) -> None:
        """Clear the gradients by the base's `zero_grad`; outside the passes, forget a step that was begun."""
        state = self.state
        earlier = state.first.before or state.step.accumulated
        if state.trip is not None and state.trip.in_place and earlier:
            self.groups.put(earlier)
            return
        self.groups.base.zero_grad(set_to_none)
        if state.trip is None:
            state.drop_step()

    def change(self, name: str, value: Any) -> None:
        """Change a setting; a new ascent or descent starts with a fresh state."""
        self.require_unperturbed(f"opt.{name} = ...")
        settings = self.settings.changed(name, value, self.groups.parameters())
        settings.check_radii(self.groups.radii())
        self.settings = settings
        if name in ("ascent", "descent"):
            self.settings.ascent.check(self.groups)
            setattr(self.state.memory, name, getattr(self.settings, name).init())

    def set_radius(self, rho: Rho) -> None:
        """One radius for all groups, present and to come."""
        self.require_unperturbed("opt.rho = ...")
        self.settings.check_radii([rho])
        self.groups.set_radius(rho)

    @property
    def keeps(self) -> bool:
        """Whether the first gradient is needed after the second pass."""
        return self.settings.descent.needs_clean or self.settings.telemetry or bool(self.watchers)

    def remember_random(self, *, again: bool = False) -> None:
        """Store the random state at the start of a first pass, for the second pass."""
        if again or self.state.first.random is None:
            self.state.first.random = RandomState(self.groups.parameters())
