"""The keywords of `SAM`, checked one by one and against each other."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, Generic, Literal, TypedDict, TypeVar, get_args, overload

from torch import Tensor, nn

from sharpmin.core.rho import Rho, RhoSchedule

from ._effects.buffers import BufferFilter
from ._numeric.shards import any_sharded
from ._protocols import Ascent, Descent, Geometry
from ._scope import SCOPES, Scope, ScopeName

Rounding = Literal["nearest", "stochastic"]


class Options(TypedDict, total=False):
    """The keywords of `SAM` that every variant accepts: all but those that define the variant."""

    model: nn.Module | None
    scope: ScopeName
    telemetry: bool
    rounding: Rounding
    skip_nonfinite: bool
    buffers: BufferFilter | None


@dataclass(frozen=True)
class Settings:
    """The keywords of `SAM` but for rho, as its docstring says; `in_scope` is made from `scope` and `model`, once."""

    model: nn.Module | None
    geometry: Geometry
    ascent: Ascent
    descent: Descent
    scope: ScopeName
    telemetry: bool
    rounding: Rounding
    skip_nonfinite: bool
    buffers: BufferFilter | None
    in_scope: Scope = field(init=False, compare=False)

    def __post_init__(self) -> None:
        self._check_kinds()
        self._check_together()
        object.__setattr__(self, "in_scope", SCOPES[self.scope](self.model))

    def changed(self, name: str, value: Any, parameters: Iterable[Tensor]) -> Settings:
        """A copy with one setting changed, checked as at construction."""
        settings = replace(self, **{name: value})
        settings.check(parameters)
        return settings

    def check(self, parameters: Iterable[Tensor]) -> None:
        """Raise for settings that do not fit these parameters or each other.

        Raises:
            ValueError: with the reason and the fix.
        """
        parameters = list(parameters)
        self._check_shards(parameters)
        self.in_scope.require_comparable(keeps=self.telemetry or self.descent.needs_clean)
        self.in_scope.require(parameters)
        if self.model is not None and parameters and set(self.model.parameters()).isdisjoint(parameters):
            raise ValueError(
                f"SAM: model={type(self.model).__name__} holds none of the parameters that the base optimizer steps; give the "
                "model that they belong to, or leave model= out"
            )

    def _check_kinds(self) -> None:
        parts = [("geometry", Geometry, "L2()"), ("ascent", Ascent, "Gradient()"), ("descent", Descent, "Perturbed()")]
        for name, kind, example in parts:
            value = getattr(self, name)
            if not isinstance(value, kind):
                call = f"{value.__name__}()" if isinstance(value, type) and issubclass(value, kind) else f"sharpmin.{example}"
                raise TypeError(f"SAM: {name}={value!r} is no {name} instance; give one, such as {name}={call}")
        for name, known in [("scope", get_args(ScopeName)), ("rounding", get_args(Rounding))]:
            if getattr(self, name) not in known:
                raise ValueError(f"SAM: {name}={getattr(self, name)!r}; {name} must be one of {', '.join(map(repr, known))}")
        for name in ("telemetry", "skip_nonfinite"):
            if not isinstance(getattr(self, name), bool):
                raise TypeError(f"SAM: {name}={getattr(self, name)!r}; {name} must be True or False")
        if self.model is not None and not isinstance(self.model, nn.Module):
            raise TypeError(
                f"SAM: model={self.model!r} is a {type(self.model).__name__}; give the torch.nn.Module that is trained"
            )
        if self.buffers is not None and not callable(self.buffers):
            raise TypeError(
                f"SAM: buffers={self.buffers!r}; give a function of a buffer's name and the buffer, or leave it out"
            )

    def _check_together(self) -> None:
        if self.buffers is not None and self.model is None:
            raise ValueError("SAM: buffers= chooses among the buffers of model=, which was not given; give model=, too")
        if self.ascent.needs_clean:
            return
        if self.descent.needs_clean:
            raise ValueError(
                f"SAM: {self.descent!r} needs the gradient at w, which {self.ascent!r} does not take; use ascent=Gradient()"
            )
        if self.scope != "global":
            raise ValueError(f'SAM: scope="{self.scope}" perturbs by a gradient of its own, and {self.ascent!r} needs none')

    def check_radii(self, radii: Iterable[Rho]) -> None:
        """Raise for a schedule that depends on the first gradient if a step has none, or several.

        Raises:
            ValueError: with the reason and the fix.
        """
        for rho in radii:
            if not (isinstance(rho, RhoSchedule) and rho.remembers):
                continue
            if not self.ascent.needs_clean:
                raise ValueError(
                    f"SAM: {rho!r} decides by the gradient at w, which {self.ascent!r} does not take; a step of "
                    "one pass has none to save, so give a number"
                )
            if self.scope != "global":
                raise ValueError(
                    f'SAM: {rho!r} decides by the one gradient of a step, and scope="{self.scope}" has one for each rank or '
                    'micro-batch, so ranks would part; use scope="global"'
                )

    def _check_shards(self, parameters: Sequence[Tensor]) -> None:
        """Raise for parts that need whole tensors if parameters are sharded, and for FSDP1."""
        if any(getattr(p, "_fsdp_flattened", False) for p in parameters):
            raise ValueError(
                "SAM: the parameters are flat shards of FullyShardedDataParallel (FSDP1), plain tensors whose norm over all "
                "ranks cannot be taken; shard with torch.distributed.fsdp.fully_shard (FSDP2)"
            )
        keeping = [part for part in (self.ascent, self.descent) if part.stateful]
        if (self.geometry.shards and not keeping) or not any_sharded(parameters):
            return
        if not self.geometry.shards:
            raise ValueError(
                f"SAM: {self.geometry!r} needs whole tensors, and the parameters are sharded (DTensor); use L2(), LInf() or "
                "Elementwise()"
            )
        raise ValueError(
            f"SAM: {keeping[0]!r} keeps tensors that torch.distributed.checkpoint would drop for sharded parameters (DTensor); "
            "use a part that keeps none, such as Gradient(), Momentum(), Perturbed()"
        )


T = TypeVar("T")


class SettingAttribute(Generic[T]):
    """A descriptor for a setting of `SAM`: it can be set between two steps, and is checked as at construction."""

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    @overload
    def __get__(self, opt: None, owner: type) -> SettingAttribute[T]: ...

    @overload
    def __get__(self, opt: object, owner: type) -> T: ...

    def __get__(self, opt: Any, owner: type) -> Any:
        return self if opt is None else getattr(opt._passes.settings, self._name)

    def __set__(self, opt: Any, value: T) -> None:
        opt._passes.change(self._name, value)


NAMES = tuple(item.name for item in fields(Settings) if item.init)


def refuse_unknown(name: str, group_keys: Iterable[str]) -> None:
    """Raise for an attribute that looks like a misspelled setting, or lives in the parameter groups.

    Raises:
        AttributeError: with the right name.
    """
    if name in group_keys:
        raise AttributeError(
            f"SAM: opt.{name} = ... does nothing, since {name} lives in the parameter groups; write "
            f'for group in opt.param_groups: group["{name}"] = ...'
        )
    near = difflib.get_close_matches(name, [*NAMES, "rho"], n=1, cutoff=0.75)
    if near:
        raise AttributeError(f"SAM: there is no setting {name!r}; did you mean opt.{near[0]} = ...?")
