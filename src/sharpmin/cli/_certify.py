"""`sharpmin certify`: the exact worst case of a few steps, as a bracket."""

from __future__ import annotations

import json
from fractions import Fraction
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from sharpmin.theory import Certificate

METHODS = ("gd", "usam", "sam")


def certify(
    method: Annotated[str, typer.Argument(help="gd, usam or sam.", autocompletion=lambda: list(METHODS))],
    steps: Annotated[int, typer.Option(help="How many steps, N: at most 6, for sam at most 3.")],
    lr: Annotated[str, typer.Option(help="The step size, in (0, 2/beta); a number such as 0.9 or 2/3.")],
    kappa: Annotated[str, typer.Option(help="beta/mu, above 1.")],
    rho: Annotated[str | None, typer.Option(help="The radius, for sam and usam.")] = None,
    beta: Annotated[str, typer.Option(help="Smoothness of f.")] = "1",
    delta: Annotated[str, typer.Option(help="f(x0) - f* is at most this.")] = "1",
    tolerance: Annotated[float, typer.Option(help="How far apart the two ends may be, in units of delta.")] = 1e-3,
    seconds: Annotated[float, typer.Option(help="End after about so long; the bracket is then wider.")] = 300.0,
    cells: Annotated[int, typer.Option(help="End after so many cells of gradient norms.")] = 10_000,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
) -> None:
    """Compute the exact worst case of a few steps, with a proof.

    The worst f(x_N) - f* over all mu-strongly convex, beta-smooth functions, as a bracket: a function attains the lower
    end, and the upper end is proved in rational arithmetic. `theory.certify` in Python also returns both.

    Exit code 0: done, also where the tolerance is not reached. 2: bad use. 130: Ctrl-C.
    """
    from sharpmin import theory

    from ._progress import heartbeat

    given = {"lr": lr, "kappa": kappa, "rho": rho, "beta": beta, "delta": delta}
    numbers: dict[str, Any] = {name: _number(name, text) for name, text in given.items() if text is not None}
    with heartbeat("certify") as tell:
        found = theory.certify(
            method, steps=steps, tolerance=tolerance, seconds=seconds, cells=cells, **numbers,
            progress=lambda done, low, high: tell(f"{done} cells, {low:.6g} to {high:.6g}"),
        )  # fmt: skip
    typer.echo(json.dumps(record(found), indent=2, allow_nan=False) if as_json else text(found))


def record(found: Certificate) -> dict[str, object]:
    """The certificate as JSON-ready values; None where no bound was proved."""
    names = ("method", "steps", "lr", "rho", "kappa", "beta", "delta", "attained", "reached", "cells", "seconds")
    whole: dict[str, object] = {name: getattr(found, name) for name in names}
    proved = {"certified": found.certified, "bound": str(found.bound)} if found.exact else {"certified": None, "bound": None}
    return whole | proved | {"x0": found.x0.tolist()}


def text(found: Certificate) -> str:
    """The bracket in words."""
    radius = "" if found.method == "gd" else f", rho {found.rho:g}"
    steps = f"{found.steps} step{'s' * (found.steps > 1)}"
    upper = f"{found.certified:.7g}, proved in rational arithmetic" if found.exact else "nothing proved; give more --seconds"
    lines = [
        f"{found.method}, {steps}, lr {found.lr:g}{radius}, kappa {found.kappa:g}, beta {found.beta:g}, delta {found.delta:g}",
        f"the worst f(x_{found.steps}) - f* over all strongly convex, smooth functions is",
        f"  at least  {found.attained:.7g}, attained by a function of {found.x0.size} variables",
        f"  at most   {upper}",
        f"{found.cells} cells in {found.seconds:.1f} s{'' if found.reached else '; the tolerance is not reached'}",
    ]
    return "\n".join(lines)


def _number(name: str, text: str) -> Fraction:
    """The number as an exact fraction."""
    try:
        return Fraction(text.strip())
    except (ValueError, ZeroDivisionError):
        raise ValueError(f"--{name} {text!r} must be a number; for example: --{name} 0.9, or --{name} 10/3") from None
