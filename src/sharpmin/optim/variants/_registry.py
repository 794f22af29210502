"""Variants by name."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from torch.optim.optimizer import Optimizer

from sharpmin.core.reference import Reference

from ..sam import SAM

F = TypeVar("F", bound=Callable[..., SAM])


@dataclass(frozen=True)
class Variant:
    """A named variant: the function that builds it, its papers, and when to use it, in a line."""

    build: Callable[..., SAM]
    references: tuple[Reference, ...]
    when: str


_VARIANTS: dict[str, Variant] = {}


def variant(*references: Reference, when: str) -> Callable[[F], F]:
    """Register a function under its own name; `when` says in a line when to use it, and how good the evidence is."""

    def register(build: F) -> F:
        if build.__name__ in _VARIANTS:
            raise ValueError(f"a variant named {build.__name__!r} exists already; choose another name")
        _VARIANTS[build.__name__] = Variant(build, references, when)
        return build

    return register


def variants() -> dict[str, Variant]:
    """All variants by name.

    >>> len(variants()), variants()["sam"].when
    (18, 'start here, and tune rho; the evidence of many laboratories is for this one')
    """
    return dict(_VARIANTS)


def create(name: str, base: Optimizer, **options: Any) -> SAM:
    """Build a variant by name.

    Args:
        name: one of `variants()`.
        base: the optimizer that SAM wraps.
        options: the keywords of the variant.

    Raises:
        ValueError: if there is no such variant; the message names the nearest ones.

    >>> import torch
    >>> create("usam", torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.1), rho=0.05).param_groups[0]["rho"]
    Unnormalized(rho=0.05)
    """
    if name not in _VARIANTS:
        near = difflib.get_close_matches(name, _VARIANTS, cutoff=0.4)
        raise ValueError(
            f"no variant {name!r}; {'did you mean ' + ' or '.join(near) if near else 'there are'}"
            f"{'?' if near else ' ' + ', '.join(sorted(_VARIANTS))}"
        )
    return _VARIANTS[name].build(base, **options)
