"""An optimizer that owns nothing: its groups, state and defaults are the base optimizer's own objects.

`torch.optim.Optimizer.__init__` would claim the parameter groups and wipe the state of a base that has already stepped, so
it is not called; `__setstate__`, the entry that unpickling uses, sets up the hooks and the profiling. A copy of either
attribute would come apart at the first `load_state_dict`; properties cannot.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from typing import Any

from torch import Tensor
from torch._compile import _disable_dynamo
from torch.optim.optimizer import Optimizer

from sharpmin.core.errors import PhaseError
from sharpmin.core.rho import Rho, RhoSchedule, as_schedule

from ._ascent import Ascent
from ._checkpoint import KEY, SCOPE, load_ascent, own_rho, plain_group, refuse_two_step, save_ascent, warn_of_scope
from ._cycle import Cycle, Pairs, Phase
from ._effects.guard import watch
from ._perturbation import Climber

COUNT = "sharpmin_step"  # steps taken, in every param group: plain numbers survive every way of saving a checkpoint
_REMADE = ("_optimizer_", "_zero_grad_profile_name")  # what `__setstate__` makes anew: hooks and profiling; `step` is patched


class Wrapper(Optimizer):
    """The part of `SAM` that is about being an optimizer around another one; `SAM` adds the step."""

    base: Optimizer
    ascent: Ascent
    scope: str
    _rho: Rho

    def __init__(self, base: Optimizer, rho: Rho, ascent: Ascent, scope: str):
        _check_base(base)
        as_schedule(rho, "SAM")
        for group in base.param_groups:
            _check_group(group, rho, base)
            _check_earlier(group, rho)
        ascent.check(base.param_groups)
        self.base, self.ascent, self.scope = base, ascent, scope
        self._rho = rho
        self._cycle = Cycle()
        watch()
        super().__setstate__({})
        for group in self.param_groups:
            self._adopt(group)

    def _adopt(self, group: dict[str, Any]) -> None:
        """Give a group its radius and its place in the schedules, where it has none."""
        group["rho"] = own_rho(group, self._rho)
        group.setdefault(COUNT, self._count())

    def _count(self) -> int:
        """The number of steps taken so far, which is where the schedules stand."""
        return max((group[COUNT] for group in self.param_groups if COUNT in group), default=self._cycle.steps)

    def _demand_unperturbed(self, call: str) -> None:
        """Raise `PhaseError` if the weights are perturbed."""
        if self._cycle.phase is Phase.PERTURBED:
            raise PhaseError(
                f"{call} came while the weights are perturbed (w + e); leave the perturbed() block, or call restore(), first; "
                "after an exception, abort()"
            )

    def _active(self) -> list[tuple[dict[str, Any], RhoSchedule]]:
        """The groups whose radius can be positive at this step, with their schedules."""
        pairs = [(group, as_schedule(own_rho(group, self._rho), "SAM")) for group in self.param_groups]
        return [(group, rho) for group, rho in pairs if rho.active(self._count(), group.get("lr", 0.0))]

    def _gradients_at_rest(self, climbers: Sequence[Climber]) -> list[Tensor]:
        """The gradients of the groups that do not climb."""
        climbing = {id(climber.group) for climber in climbers}
        resting = (p for group in self.param_groups if id(group) not in climbing for p in group["params"])
        return [p.grad for p in resting if p.grad is not None]

    def _parameters(self) -> Iterator[Tensor]:
        return (p for group in self.param_groups for p in group["params"])

    def _gradients(self) -> Pairs:
        """Every parameter that has a gradient, with it."""
        return [(p, grad) for group in self.param_groups for p in group["params"] if (grad := p.grad) is not None]

    def _put_gradients(self, pairs: Pairs) -> None:
        """These gradients and no others."""
        for group in self.param_groups:
            for p in group["params"]:
                p.grad = None
        for p, grad in pairs:
            p.grad = grad

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
        """Forward to the base optimizer; what was not stepped with is given up.

        Inside a second pass it clears the gradients of that pass, not what earlier micro-batches have accumulated.
        """
        cycle = self._cycle
        if cycle.phase is Phase.PERTURBED:
            if cycle.earlier and cycle.onto:
                self._put_gradients(cycle.earlier)
            else:
                self.base.zero_grad(set_to_none)
            return
        self.base.zero_grad(set_to_none)
        cycle.phase, cycle.earlier = Phase.CLEAN, [] if cycle.inside else None
        cycle.forget()

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group to the base optimizer; it takes this SAM's rho unless it brings one.

        Raises:
            TypeError: if the group's rho is neither a number nor a schedule.
            ValueError: if it is a negative or non-finite number, or the group is `differentiable`.
        """
        self._demand_unperturbed("add_param_group()")
        _check_group(param_group, self._rho, self.base)
        self.ascent.check([{**self.base.defaults, **param_group}])
        self.base.add_param_group(param_group)
        self._adopt(self.param_groups[-1])

    def state_dict(self) -> dict[str, Any]:
        """The base optimizer's state dict, with rho (where it is a number), the scope and the step count in its groups.

        A schedule object stays out: it is code, not state, and `torch.load(weights_only=True)` would refuse it; the word
        "schedule" stands for it. What an ascent remembers is under the key `sharpmin`.
        """
        self._demand_unperturbed("state_dict()")
        for before in self._optimizer_state_dict_pre_hooks.values():
            before(self)
        state = self.base.state_dict()
        state = {**state, "param_groups": [{**plain_group(group), SCOPE: self.scope} for group in state["param_groups"]]}
        state |= save_ascent(self._cycle.ascent, self._parameters())
        for after in self._optimizer_state_dict_post_hooks.values():
            changed = after(self, state)
            state = state if changed is None else changed
        return state

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load a checkpoint of SAM or of the bare base optimizer; a live schedule stays, a saved number replaces a number.

        Raises:
            ValueError: if it is the checkpoint of a two-step SAM wrapper, which lacks the state of its base optimizer.

        Warns:
            UserWarning: if it was saved by a SAM of another scope.
        """
        self._demand_unperturbed("load_state_dict()")
        for before in self._optimizer_load_state_dict_pre_hooks.values():
            changed = before(self, state_dict)
            state_dict = state_dict if changed is None else changed
        refuse_two_step(state_dict)
        live = [own_rho(group, self._rho) for group in self.param_groups]
        self.base.load_state_dict({k: v for k, v in state_dict.items() if k != KEY})
        cycle = self._cycle
        cycle.phase, cycle.earlier = Phase.CLEAN, None  # gradients from before the load are no step
        cycle.forget()
        cycle.ascent = load_ascent(state_dict, self._parameters(), self.ascent)
        for group, rho in zip(self.param_groups, live, strict=True):
            group["rho"] = rho if isinstance(rho, RhoSchedule) else own_rho(group, rho)
            group.setdefault(COUNT, 0)
        warn_of_scope({group.pop(SCOPE, self.scope) for group in self.param_groups}, self.scope)
        for after in self._optimizer_load_state_dict_post_hooks.values():
            after(self)

    def __getstate__(self) -> dict[str, Any]:
        self._demand_unperturbed("copying or pickling the optimizer")
        kept = {k: v for k, v in self.__dict__.items() if k != "step" and not k.startswith(_REMADE)}
        return kept | {"watchers": []}  # whoever watches this one does not watch a copy


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
    if "rho" in base.defaults:
        raise ValueError(
            f'SAM: {type(base).__name__} has a setting called rho of its own, and group["rho"] is the radius; use another base'
        )
    name = type(base).__name__
    closure = inspect.signature(type(base).step).parameters.get("closure")
    if closure is not None and closure.default is inspect.Parameter.empty:
        raise TypeError(
            f"SAM: {name}.step() needs a closure, so it evaluates gradients at points of its own choice, where no "
            "perturbation is defined; use a base that steps from given gradients, such as SGD or Adam"
        )


def _check_group(group: dict[str, Any], rho: Rho, base: Optimizer) -> None:
    """Refuse a group that cannot be perturbed, before anything has changed."""
    as_schedule(own_rho(group, rho), "SAM")
    if group.get("differentiable", base.defaults.get("differentiable")):
        raise ValueError(
            f"SAM: {type(base).__name__} has a group with differentiable=True, which forbids moving the weights in place; "
            "make it with differentiable=False"
        )


def _check_earlier(group: dict[str, Any], rho: Rho) -> None:
    """Refuse a base that an earlier SAM, or its checkpoint, has left with another rho: it would win silently."""
    if COUNT in group and own_rho(group, rho) != rho:
        raise ValueError(
            f"SAM: rho={rho!r} was given, but a group of the base holds rho={group['rho']!r} from an earlier SAM or its "
            'checkpoint, and group["rho"] overrides; give that rho, or remove it first: del group["rho"]'
        )
