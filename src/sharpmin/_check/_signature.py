"""Finds out how to call a constructor from the names of its parameters."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

HINT = "give a factory: --make module:function, with function(params, base_class, rho, base_options)"


@dataclass(frozen=True)
class Signature:
    """A constructor and the roles of its parameters.

    Attributes:
        target: the constructor.
        roles: "params", "base", "options", "model" and "rho", each with the name of its parameter.
        extra: more arguments, as they were given.
        by_class: whether it makes the base from a class and its options.
    """

    target: Callable[..., Any]
    roles: dict[str, str]
    extra: dict[str, Any]
    by_class: bool

    @classmethod
    def of(cls, target: Callable[..., Any], name: str, signature: inspect.Signature, extra: dict[str, Any]) -> Signature:
        """Read the roles from the signature.

        Raises:
            TypeError: if it takes no base or no rho that could be recognized, or if an argument is missing or unknown.
        """
        named = [p for p in signature.parameters.values() if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
        spread = any(p.kind is p.VAR_KEYWORD for p in signature.parameters.values())
        roles = {role: p.name for p in reversed(named) if p.name not in extra and (role := _role(p.name))}
        called = f"{name}({', '.join(signature.parameters)})"
        if "base" not in roles:
            raise TypeError(f"{called} takes no base optimizer that could be recognized; {HINT}")
        _refuse_missing(name, named, extra)
        _refuse_unknown(name, signature, {} if spread else extra)
        if "rho" not in roles and not spread:
            raise TypeError(f"{called} takes no rho; {HINT}")
        return cls(target, roles, extra, "params" in roles and (spread or "options" in roles))

    def build(
        self, params: Any, base: type[torch.optim.Optimizer], rho: float, options: dict[str, Any], model: nn.Module
    ) -> Any:
        """Construct an optimizer under test around one base."""
        listed = list(params)
        values: dict[str, Any] = {"params": listed, "model": model, "base": base, "options": options}
        if not self.by_class:
            values["base"] = base(listed, **options)
            del values["options"]
        more = options if self.by_class and "options" not in self.roles else {}
        return self._call(values, rho, more)

    @property
    def several(self) -> Callable[[list[torch.optim.Optimizer], float, nn.Module], Any] | None:
        """A constructor for several existing bases, or None if it takes parameters or a base class."""
        if self.by_class or "params" in self.roles:
            return None

        def build(bases: list[torch.optim.Optimizer], rho: float, model: nn.Module) -> Any:
            return self._call({"base": bases, "model": model}, rho, {})

        return build

    def _call(self, values: dict[str, Any], rho: float, more: dict[str, Any]) -> Any:
        keywords = {key: values[role] for role, key in self.roles.items() if role in values}
        return self.target(**keywords, **more, **{self.roles.get("rho", "rho"): rho}, **self.extra)


def _refuse_missing(name: str, named: list[inspect.Parameter], extra: dict[str, Any]) -> None:
    missing = [p.name for p in named if p.default is p.empty and not _role(p.name) and p.name not in extra]
    if missing:
        given = " ".join(f"--set {key}=..." for key in missing)
        raise TypeError(f"{name} needs {', '.join(missing)}; give {given}, or {HINT.removeprefix('give ')}")


def _refuse_unknown(name: str, signature: inspect.Signature, extra: dict[str, Any]) -> None:
    strange = [key for key in extra if key not in signature.parameters]
    if strange:
        raise TypeError(f"{name} takes no {', '.join(strange)}; it takes {', '.join(signature.parameters)}")


def _role(name: str) -> str:
    """The role of a parameter of this name, or None."""
    lower = name.lower()
    if lower.endswith(("kwargs", "options", "args")) and ("base" in lower or "optim" in lower or lower == "kwargs"):
        return "options"
    if lower in ("params", "parameters", "param_groups"):
        return "params"
    if lower in ("base", "inner", "opt", "base_class", "base_cls") or "optim" in lower:
        return "base"
    return {"model": "model", "module": "model", "net": "model", "rho": "rho"}.get(lower, "")
