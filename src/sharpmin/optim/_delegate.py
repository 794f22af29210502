"""An optimizer that owns nothing: its groups, state and defaults are the base optimizer's own objects.

`torch.optim.Optimizer.__init__` would claim the parameter groups and wipe the state of a base that has already stepped, so
it is not called; `__setstate__`, the entry that unpickling uses, sets up the hooks and the profiling. A copy of either
attribute would come apart at the first `load_state_dict`; properties cannot.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from torch.optim.optimizer import Optimizer

from ._bases import steppers_of

_REMADE = ("_optimizer_", "_zero_grad_profile_name")  # what `__setstate__` makes anew: hooks and profiling; `step` is patched


class Inner(Protocol):
    """What a delegate asks of what it adds to its base."""

    def require_unperturbed(self, call: str) -> None:
        """Refuse a call where the weights are perturbed."""

    def state_dict(self) -> dict[str, Any]:
        """The base's, with what is added."""
        ...

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """The inverse."""


class Delegate(Optimizer):
    """What it takes to be an optimizer around another one; its own public methods are reached through it, too."""

    base: Optimizer
    _passes: Inner

    def __init__(self, base: Optimizer):
        self.base = base
        super().__setstate__({})

    if not TYPE_CHECKING:  # a type checker that saw it would let every misspelt name pass

        def __getattr__(self, name: str) -> Any:
            """What the base has and torch's optimizers have not, such as `train` and `eval` of a schedule-free one."""
            base = self.__dict__.get("base")
            if base is None or name.startswith("_") or not hasattr(base, name):
                raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
            return getattr(base, name)

    @property
    def base_optimizer(self) -> Optimizer:
        """The base, under the name that other SAMs give to it."""
        return self.base

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

    def state_dict(self) -> dict[str, Any]:
        """The base optimizer's state dict, with rho (where it is a number), the scope and the step count in its groups.

        A schedule object stays out: it is code, not state, and `torch.load(weights_only=True)` would refuse it; the word
        "schedule" stands for it. What an ascent or a descent remembers is under the key `sharpmin`.
        """
        self._passes.require_unperturbed("state_dict()")
        for before in self._optimizer_state_dict_pre_hooks.values():
            before(self)
        state = self._passes.state_dict()
        for after in self._optimizer_state_dict_post_hooks.values():
            changed = after(self, state)
            state = state if changed is None else changed
        return state

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load a checkpoint of SAM or of the bare base optimizer; a live schedule stays, a saved number replaces a number.

        Raises:
            TypeError, ValueError: before anything has changed, if a number or tensor in it cannot be right, or it is the
                checkpoint of a two-step SAM wrapper, which lacks the state of its base optimizer.

        Warns:
            UserWarning: if it was saved by a SAM of another scope.
        """
        self._passes.require_unperturbed("load_state_dict()")
        for before in self._optimizer_load_state_dict_pre_hooks.values():
            changed = before(self, state_dict)
            state_dict = state_dict if changed is None else changed
        self._passes.load_state_dict(state_dict)
        for after in self._optimizer_load_state_dict_post_hooks.values():
            after(self)

    def __getstate__(self) -> dict[str, Any]:
        self._passes.require_unperturbed("copying or pickling the optimizer")
        kept = {k: v for k, v in self.__dict__.items() if k != "step" and not k.startswith(_REMADE)}
        return kept | {"_attributes": [(base, _attributes_of(base)) for base in steppers_of(self.base)]}

    def __setstate__(self, state: dict[str, Any]) -> None:
        state = dict(state)
        attributes = state.pop("_attributes", [])
        super().__setstate__(state)
        for base, own in attributes:
            vars(base).update(own)


def _attributes_of(base: Optimizer) -> dict[str, Any]:
    """What a base keeps outside groups, state and defaults: `Optimizer.__getstate__`, and so a copy, leaves it out.

    A base with a `__getstate__` of its own has said what it keeps.
    """
    if type(base).__getstate__ is not Optimizer.__getstate__:
        return {}
    kept = base.__getstate__()
    return {k: v for k, v in vars(base).items() if k not in kept and k != "step" and not k.startswith(_REMADE)}
