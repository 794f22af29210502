"""The rows of a watched run: one for the run, one for each step, one for each block of steps.

A `step` row has the scalars of one step; a `block` row their means over a block of steps, with the mean sketches. Sketches are
base64 of little-endian float32. Every row names the run that wrote it.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import torch
from torch import Tensor

from sharpmin.core.text import printable

from .sketch import BUCKETS

Row: TypeAlias = dict[str, Any]
Writer: TypeAlias = Callable[[Row], None]
VERSION = 2
"""The version of the format; since 2 every row has `id`, and the run's row the versions of sharpmin and torch."""

SKETCHES = ("g", "d", "pd", "pg", "x")
_OPTIONAL = ("loss", "lag", "momentum", "along", "steep", "curvature", "edge", "bounce", "gpg", "gx", "radius", "gain")
_MEANS = ("n", "steps", "gg", "dg", "dd", "norm_g", "norm_d")
_NEEDS = {"run": ("version",), "step": ("step", "gg", "dg", "dd"), "block": ("first", "last", *_MEANS)}
_SINGLE: dict[str, tuple[str, ...]] = {
    "run": (),
    "step": (*_OPTIONAL, "rho", "lr", "climbed", "total_passes"),
    "block": _OPTIONAL,
}
"""The numbers that a row of each kind may have, besides those it needs."""

TEXT = 200
"""Most characters that are kept of a string from a file."""


def encode(sketch: Tensor) -> str:
    """Encode 256 numbers as text.

    >>> decode(encode(torch.tensor([1.0, -0.5])))
    tensor([ 1.0000, -0.5000], dtype=torch.float64)
    """
    return base64.b64encode(bytes(sketch.detach().to("cpu", torch.float32).contiguous().view(torch.uint8).tolist())).decode()


def decode(text: str) -> Tensor:
    """The inverse of `encode`, in float64."""
    return torch.frombuffer(bytearray(base64.b64decode(text)), dtype=torch.float32).double()


def finite(row: Mapping[str, Any]) -> Row:
    """Replace nan and inf, which JSON does not have, by text."""
    return {k: repr(v) if isinstance(v, float) and not math.isfinite(v) else v for k, v in row.items()}


def whole(found: Any) -> Row:
    r"""Check and convert a row that was read from JSON: nan and inf become numbers, text becomes printable.

    >>> whole({"kind": "run", "version": 2, "base": "SGD\x1b[31m", "mu": "nan"})
    {'kind': 'run', 'version': 2, 'base': 'SGD?[31m', 'mu': nan}

    Raises:
        ValueError, KeyError, TypeError, AttributeError, OverflowError: if it is no row of its kind.
    """
    row = {_shown(k): v if k in SKETCHES else _plain(v) for k, v in found.items()}
    kind = row["kind"]
    if not all(isinstance(row[key], (int, float)) for key in _NEEDS[kind]) or not all(
        isinstance(row.get(key, 0.0), (int, float)) for key in _SINGLE[kind]
    ):
        raise TypeError("a number that is none")
    if not isinstance(row.get("id", ""), str):
        raise TypeError("an id that is none")
    if not all(math.isfinite(row.get(key, 0)) for key in ("step", "first", "last")):
        raise ValueError("a step whose number is none")
    if kind == "block" and not _possible(row):
        raise ValueError("a block with numbers that no run writes")
    return row


def _plain(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    return float(value) if value in ("nan", "inf", "-inf") else _shown(value)


def _shown(text: str) -> str:
    return printable(text[:TEXT])


def _possible(block: Row) -> bool:
    """Whether counts are positive, rho and lr are pairs of finite numbers, and sketches have the full length."""
    counts = all(0 < float(block[key]) < math.inf for key in ("n", "steps"))
    pairs = all(len(block[key]) == 2 and all(map(math.isfinite, block[key])) for key in ("rho", "lr"))
    ahead = block.get("ahead", [])
    counts = counts and isinstance(ahead, list) and all(isinstance(v, (int, float)) and 0 <= v < math.inf for v in ahead)
    present = ("g", "d", *(key for key in SKETCHES[2:] if key in block))
    return counts and pairs and all(len(decode(block[key])) == BUCKETS for key in present)
