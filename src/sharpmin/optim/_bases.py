"""Several base optimizers under one SAM: they share one norm and one radius, and each steps its own parameters."""

from __future__ import annotations

import difflib
import inspect
import re
from collections.abc import Mapping, Sequence
from numbers import Real
from types import MappingProxyType
from typing import Any

from torch.optim.optimizer import Optimizer


class Bases(Optimizer):
    """Several optimizers seen as one; its state dict lists the groups of all bases, in their order.

    >>> import torch
    >>> a, b = torch.nn.Parameter(torch.ones(1)), torch.nn.Parameter(torch.ones(1))
    >>> both = Bases([torch.optim.SGD([a], lr=0.1), torch.optim.Adam([b], lr=0.01)])
    >>> [group["lr"] for group in both.param_groups]
    [0.1, 0.01]
    """

    def __init__(self, bases: Sequence[Optimizer]):
        if not bases:
            raise TypeError("SAM: base is an empty list; give at least one optimizer")
        for base in bases:
            check_base(base)
        owner: dict[int, int] = {}
        for number, base in enumerate(bases):
            for p in (p for group in base.param_groups for p in group["params"]):
                if owner.setdefault(id(p), number) != number or any(other is base for other in bases[:number]):
                    raise ValueError(
                        f"SAM: a parameter of shape {tuple(p.shape)} is in two of the bases, number {owner[id(p)]} and number "
                        f"{number}, and both would step it; give each base parameters of its own"
                    )
        self.bases = list(bases)
        super().__setstate__({})

    def __getattr__(self, name: str) -> Any:
        """Return a function that calls this public method on every base that has it."""
        found = [] if name.startswith("_") else [getattr(b, name) for b in self.__dict__.get("bases", ()) if hasattr(b, name)]
        if not found or not all(map(callable, found)):
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

        def call(*args: Any, **kwargs: Any) -> None:
            for method in found:
                method(*args, **kwargs)

        return call

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        """A new list with the groups of all bases, in their order; the groups are the bases' own dicts."""
        return [group for base in self.bases for group in base.param_groups]

    @param_groups.setter
    def param_groups(self, groups: list[dict[str, Any]]) -> None:
        """Distribute a list of the same length over the bases.

        Raises:
            ValueError: if the number of groups differs.
        """
        if len(groups) != len(self.param_groups):
            raise ValueError("SAM: with several bases, set opt.base.bases[i].param_groups, so that each keeps its own")
        for base, own in zip(self.bases, self._split(groups), strict=True):
            base.param_groups = own

    @property
    def state(self) -> Any:  # type: ignore[override]
        """A merged, read-only view of the states of all bases."""
        return MappingProxyType({p: own for base in self.bases for p, own in base.state.items()})

    @property
    def defaults(self) -> dict[str, Any]:  # type: ignore[override]
        """Empty: new groups are added to one of the bases, which has its own defaults."""
        return {}

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Always refused: it is not known which base should step the group.

        Raises:
            ValueError: always, with the fix.
        """
        raise ValueError(
            "SAM: with several bases, add the group to the base that should step it: opt.base.bases[i].add_param_group(...)"
        )

    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Call `step` of every base."""
        for base in self.bases:
            base.step()

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Call `zero_grad` of every base."""
        for base in self.bases:
            base.zero_grad(set_to_none)

    def state_dict(self) -> dict[str, Any]:
        """One state dict in torch's form; parameters are numbered across all bases."""
        state, groups, start = dict[int, Any](), list[dict[str, Any]](), 0
        for base in self.bases:
            own = base.state_dict()
            state |= {start + i: entry for i, entry in own["state"].items()}
            groups += [{**group, "params": [start + i for i in group["params"]]} for group in own["param_groups"]]
            start = sum(len(group["params"]) for group in groups)
        return {"state": state, "param_groups": groups}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Load what `state_dict` returned.

        Raises:
            ValueError: if it has other groups, before anything has changed.
        """
        saved, live = state_dict["param_groups"], self.param_groups
        if [len(group["params"]) for group in saved] != [len(group["params"]) for group in live]:
            raise ValueError("load_state_dict: the checkpoint has other parameter groups than the bases of this SAM")
        start = 0
        for base, own in zip(self.bases, self._split(saved), strict=True):
            size = sum(len(group["params"]) for group in own)
            groups = [{**group, "params": [i - start for i in group["params"]]} for group in own]
            state = {i - start: entry for i, entry in state_dict["state"].items() if start <= i < start + size}
            base.load_state_dict({"state": state, "param_groups": groups})
            start += size

    def _split(self, groups: Sequence[dict[str, Any]]) -> list[list[dict[str, Any]]]:
        """Split a list of all groups into one list for each base."""
        out, start = [], 0
        for base in self.bases:
            out.append(list(groups[start : start + len(base.param_groups)]))
            start += len(base.param_groups)
        return out

    def __getstate__(self) -> dict[str, Any]:
        return {"bases": self.bases}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        super().__setstate__({})

    def __repr__(self) -> str:
        return f"[{', '.join(map(repr, self.bases))}]"


def without_counts(text: str) -> str:
    r"""The text of an optimizer without the lines of what SAM keeps in its groups.

    >>> without_counts("Parameter Group 0\n    rho: 0.05\n    sharpmin_step: 3\n    weight_decay: 0")
    'Parameter Group 0\n    rho: 0.05\n    weight_decay: 0'
    """
    return re.sub(r"\n *sharpmin_\w+: .*", "", text)


def joined(base: Optimizer | Sequence[Optimizer]) -> Optimizer:
    """The base itself, or several of them as one `Bases`; other input raises one clear error."""
    if isinstance(base, (list, tuple)) and all(isinstance(b, Optimizer) for b in base):
        base = base[0] if len(base) == 1 else Bases(base)
    check_base(base)
    for one in steppers_of(base):  # type: ignore[arg-type]  # checked
        if "_optimizer_state_dict_pre_hooks" not in vars(one):  # a subclass that did not call `Optimizer.__init__`
            Optimizer.__setstate__(one, {})
    return base  # type: ignore[return-value]


def bases_of(base: Optimizer) -> list[Optimizer]:
    """The list of base optimizers, with one entry unless `base` is a `Bases`."""
    return base.bases if isinstance(base, Bases) else [base]


def steppers_of(base: Optimizer) -> list[Optimizer]:
    """The bases and the optimizers that they wrap, as a Lookahead wraps one; each once."""
    found: list[Optimizer] = []
    waiting: list[Any] = list(bases_of(base))
    while waiting:
        one = waiting.pop(0)
        if isinstance(one, (list, tuple)):
            waiting += one
        elif isinstance(one, Optimizer) and not any(one is other for other in found):
            found.append(one)
            waiting += [value for value in vars(one).values() if isinstance(value, (Optimizer, list, tuple))]
    return found


def load(base: Optimizer, state_dict: dict[str, Any]) -> None:
    """Load a state dict so that a wrapper such as Lookahead and the optimizer inside still share their groups afterwards."""
    together = [(one, inner) for one in bases_of(base) for inner in steppers_of(one)[1:] if _share_groups(one, inner)]
    base.load_state_dict(state_dict)
    for one, inner in together:
        if not _share_groups(one, inner):
            inner.param_groups = one.param_groups


def _share_groups(one: Optimizer, other: Optimizer) -> bool:
    return list(map(id, one.param_groups)) == list(map(id, other.param_groups))


def check_base(base: object) -> None:
    """Refuse what cannot be a base, with the reason and the fix.

    Raises:
        TypeError: if it is no optimizer instance, is a SAM, or needs a closure.
        ValueError: if it has a setting called rho.
    """
    ours = callable(getattr(base, "perturbed", None))
    if ours or all(callable(getattr(base, name, None)) for name in ("first_step", "second_step")):
        inner = "base" if ours else "base_optimizer"
        raise TypeError(f"SAM: base is itself a SAM; give the optimizer that it wraps, SAM(opt.{inner}, rho=...)")
    if not isinstance(base, Optimizer):
        given = base.__name__ if isinstance(base, type) else type(base).__name__
        raise TypeError(
            f"SAM: base={given} is not an optimizer instance; build the base first: "
            "SAM(torch.optim.SGD(model.parameters(), lr=0.1), rho=0.05)"
        )
    name = type(base).__name__
    if "rho" in base.defaults:
        raise ValueError(f'SAM: {name} has a setting called rho of its own, and group["rho"] is the radius; use another base')
    closure = inspect.signature(type(base).step).parameters.get("closure")
    if closure is not None and closure.default is inspect.Parameter.empty:
        raise TypeError(
            f"SAM: {name}.step() needs a closure, so it evaluates gradients at points of its own choice, where no "
            "perturbation is defined; use a base that steps from given gradients, such as SGD or Adam"
        )


def refuse_common_constructor(args: Sequence[object], keywords: Mapping[str, object], known: Sequence[str]) -> None:
    """Refuse the constructor that other SAMs have, `SAM(params, SGD, rho=0.05, adaptive=False, lr=0.1)`, and unknown keywords.

    Raises:
        TypeError: with the line to paste.
    """
    unknown = {k: v for k, v in keywords.items() if k not in known}
    kind = next((k for k in (*args[:2], keywords.get("base_optimizer")) if isinstance(k, type)), None)
    if kind is not None and issubclass(kind, Optimizer):
        radii = [r for r in (keywords.get("rho"), *args[1:3]) if isinstance(r, Real)]
        unknown |= dict(zip(["adaptive"], args[3:], strict=False))
        raise TypeError(f"SAM: it takes an optimizer instance, not parameters and a class; write {_line(kind, unknown, radii)}")
    if "adaptive" in unknown:
        raise TypeError(
            "SAM: adaptive= is not a keyword; adaptive SAM is another geometry: sharpmin.asam(base, rho=0.5), or "
            "SAM(base, rho=0.5, geometry=sharpmin.Elementwise(eta=0.01))"
        )
    if unknown:
        name = next(iter(unknown))
        near = difflib.get_close_matches(name, known, n=1, cutoff=0.7)
        hint = f"did you mean {near[0]}?" if near else "settings of the base go into the base's constructor"
        raise TypeError(f"SAM: unknown keyword {name!r}; {hint}")


def _line(kind: type, unknown: Mapping[str, object], radii: Sequence[Real]) -> str:
    """The constructor to paste, for a base of this kind and the keywords that were meant for it."""
    options = {k: v for k, v in unknown.items() if k not in ("base_optimizer", "adaptive", "params")}
    words = "".join(f", {k}={v!r}" for k, v in options.items()) or ", lr=0.1"
    home = "torch.optim." if kind.__module__.startswith("torch.optim") else ""
    name, rho = ("asam", 0.5) if unknown.get("adaptive") else ("SAM", 0.05)
    return f"sharpmin.{name}({home}{kind.__name__}(model.parameters(){words}), rho={next(iter(radii), rho)})"


def without_self(method: Any) -> inspect.Signature:
    """The signature of a method, as its callers see it.

    >>> class A:
    ...     def f(self, x): ...
    >>> without_self(A.f)
    <Signature (x)>
    """
    own = inspect.signature(method)
    return own.replace(parameters=list(own.parameters.values())[1:])
