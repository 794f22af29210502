"""An optimizer that owns nothing: its groups, state and defaults are the base optimizer's own objects.

`torch.optim.Optimizer.__init__` would claim the parameter groups and wipe the state of a base that has already stepped, so
it is not called; `__setstate__`, the entry that unpickling uses, sets up the hooks and the profiling. A copy of either
attribute would come apart at the first `load_state_dict`; properties cannot.
"""

from __future__ import annotations

import inspect
from typing import Any

from torch._compile import _disable_dynamo
from torch.optim.optimizer import Optimizer

from sharpmin.core.rho import Rho, RhoSchedule, as_schedule

COUNT = "sharpmin_step"  # steps taken, in every param group: plain numbers survive every way of saving a checkpoint
_PICKLED = ("base", "geometry", "skip_nonfinite", "_rho", "_cycle")


class Wrapper(Optimizer):
    """The part of `SAM` that is about being an optimizer around another one; `SAM` adds the step."""

    base: Optimizer
    _rho: Rho

    def __init__(self, base: Optimizer, rho: Rho):
        _check_base(base)
        as_schedule(rho, "SAM")
        self.base = base
        self._rho = rho
        super().__setstate__({})
        for group in self.param_groups:
            self._adopt(group)

    def _adopt(self, group: dict[str, Any]) -> None:
        """Give a group its radius and its place in the schedules, where it has none."""
        as_schedule(group.setdefault("rho", self._rho), "SAM")
        group.setdefault(COUNT, self._count())

    def _count(self) -> int:
        """The number of steps taken so far, which is where the schedules stand."""
        return max((group.get(COUNT, 0) for group in self.param_groups), default=0)

    def _demand_unperturbed(self, call: str) -> None:
        """Raise `PhaseError` if the weights are perturbed."""
        raise NotImplementedError

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        """The base optimizer's own list."""
        return self.base.param_groups

    @param_groups.setter
    def param_groups(self, groups: list[dict[str, Any]]) -> None:
        self.base.param_groups = groups

    @property
    def state(self) -> Any:
        """The base optimizer's own state."""
        return self.base.state

    @state.setter
    def state(self, state: Any) -> None:
        self.base.state = state

    @property
    def defaults(self) -> dict[str, Any]:
        """The base optimizer's own defaults."""
        return self.base.defaults

    @defaults.setter
    def defaults(self, defaults: dict[str, Any]) -> None:
        self.base.defaults = defaults

    @_disable_dynamo
    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forward to the base optimizer."""
        self.base.zero_grad(set_to_none)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group to the base optimizer; it takes this SAM's rho unless it brings one.

        Raises:
            TypeError: if the group's rho is neither a number nor a schedule.
            ValueError: if it is a negative or non-finite number.
        """
        self._demand_unperturbed("add_param_group()")
        as_schedule(param_group.get("rho", self._rho), "SAM")
        self.base.add_param_group(param_group)
        self._adopt(self.param_groups[-1])

    def state_dict(self) -> dict[str, Any]:
        """The base optimizer's state dict, with rho (where it is a number) and the step count in its groups.

        A schedule object stays out: it is code, not state, and `torch.load(weights_only=True)` would refuse it.
        """
        self._demand_unperturbed("state_dict()")
        for before in self._optimizer_state_dict_pre_hooks.values():
            before(self)
        state = self.base.state_dict()
        groups = [{k: v for k, v in group.items() if not isinstance(v, RhoSchedule)} for group in state["param_groups"]]
        state = {**state, "param_groups": groups}
        for after in self._optimizer_state_dict_post_hooks.values():
            changed = after(self, state)
            state = state if changed is None else changed
        return state

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load a checkpoint of SAM or of the bare base optimizer; a live schedule stays, a saved number replaces a number."""
        self._demand_unperturbed("load_state_dict()")
        for before in self._optimizer_load_state_dict_pre_hooks.values():
            changed = before(self, state_dict)
            state_dict = state_dict if changed is None else changed
        live = [group.get("rho", self._rho) for group in self.param_groups]
        self.base.load_state_dict(state_dict)
        for group, rho in zip(self.param_groups, live, strict=True):
            if isinstance(rho, RhoSchedule):
                group["rho"] = rho
            group.setdefault("rho", rho)
            group.setdefault(COUNT, 0)
        for after in self._optimizer_load_state_dict_post_hooks.values():
            after(self)

    def __getstate__(self) -> dict[str, Any]:
        self._demand_unperturbed("copying or pickling the optimizer")
        return {name: self.__dict__[name] for name in _PICKLED}


def _check_base(base: object) -> None:
    """Refuse what cannot be a base, with the reason and the fix."""
    if isinstance(base, Wrapper):
        raise TypeError("SAM: base is itself a SAM; give the optimizer that it wraps, SAM(opt.base, rho=...)")
    if not isinstance(base, Optimizer):
        given = base.__name__ if isinstance(base, type) else type(base).__name__
        raise TypeError(
            f"SAM: base={given} is not an optimizer instance; build the base first: "
            "SAM(torch.optim.SGD(model.parameters(), lr=0.1), rho=0.05)"
        )
    name = type(base).__name__
    closure = inspect.signature(type(base).step).parameters.get("closure")
    if closure is not None and closure.default is inspect.Parameter.empty:
        raise TypeError(
            f"SAM: {name}.step() needs a closure, so it evaluates gradients at points of its own choice, where no "
            "perturbation is defined; use a base that steps from given gradients, such as SGD or Adam"
        )
    if any(group.get("differentiable") for group in base.param_groups):
        raise ValueError(
            f"SAM: {name} was made with differentiable=True, which forbids moving the weights in place; "
            "make it with differentiable=False"
        )
