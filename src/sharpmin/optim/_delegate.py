"""An optimizer whose groups, state and defaults are those of the base optimizer.

`torch.optim.Optimizer.__init__` would replace the parameter groups and the state of a base that has already stepped, so it
is not called; `__setstate__`, the entry that unpickling uses, sets up the hooks and the profiling. They are
properties, since copies would differ after the first `load_state_dict`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from torch.optim.optimizer import Optimizer

from ._bases import steppers_of

_REMADE = ("_optimizer_", "_zero_grad_profile_name")  # `__setstate__` sets them anew; `step` is patched


class Inner(Protocol):
    """What `Delegate` needs from the object that holds SAM's own part."""

    def require_unperturbed(self, call: str) -> None:
        """Refuse a call where the weights are perturbed."""

    def state_dict(self) -> dict[str, Any]:
        """The base's state dict with SAM's entries."""
        ...

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load what `state_dict` returned."""


class Delegate(Optimizer):
    """The optimizer interface around a base; public methods of the base can be called on it, too."""

    base: Optimizer
    _passes: Inner

    def __init__(self, base: Optimizer):
        self.base = base
        super().__setstate__({})

    if not TYPE_CHECKING:  # hidden from type checkers, which would otherwise accept every misspelled name

        def __getattr__(self, name: str) -> Any:
            """Public attributes of the base that `Optimizer` lacks, such as `train` and `eval` of a schedule-free optimizer."""
            base = self.__dict__.get("base")
            if base is None or name.startswith("_") or not hasattr(base, name):
                raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
            return getattr(base, name)

    @property
    def base_optimizer(self) -> Optimizer:
        """Alias of `base`, the name that other SAM implementations use."""
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
    """Attributes of a base besides groups, state and defaults, which `Optimizer.__getstate__` leaves out of copies.

    Empty for a base with its own `__getstate__`.
    """
    if type(base).__getstate__ is not Optimizer.__getstate__:
        return {}
    kept = base.__getstate__()
    return {k: v for k, v in vars(base).items() if k not in kept and k != "step" and not k.startswith(_REMADE)}
