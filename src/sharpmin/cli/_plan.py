"""`sharpmin plan`: the bounds of a planned run for given constants."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

from . import _names

Number = float | None


def plan(
    rho: Annotated[float, typer.Option(help="The radius; its first value if decaying, the factor of ||g|| if unnormalized.")],
    steps: Annotated[int, typer.Option(help="How many steps, T.")],
    setting: Annotated[
        str, typer.Option(help="strongly-convex, convex, pl or nonconvex.", autocompletion=_names.settings)
    ] = "strongly-convex",
    oracle: Annotated[
        str, typer.Option(help="exact, m-sam (as practiced) or n-sam (independent samples).", autocompletion=_names.oracles)
    ] = "m-sam",
    radius: Annotated[
        str, typer.Option(help="constant, decaying, unnormalized, capped or clipped.", autocompletion=_names.radii)
    ] = "constant",
    beta: Annotated[Number, typer.Option(help="Smoothness of f.")] = None,
    mu: Annotated[Number, typer.Option(help="Strong convexity, or the PL constant.")] = None,
    sigma: Annotated[Number, typer.Option(help="Root mean square of the gradient noise; for m-sam and n-sam.")] = None,
    residual: Annotated[
        str | None, typer.Option(help="A,B,C in place of sigma: E||g||^2 <= 2 A (f - f*) + B ||grad f||^2 + C.")
    ] = None,
    delta: Annotated[Number, typer.Option(help="f(x0) - f*.")] = None,
    distance: Annotated[Number, typer.Option(help="||x0 - x*||.")] = None,
    beta_component: Annotated[Number, typer.Option(help="Smoothness of the samples, for m-sam; default beta.")] = None,
    lr: Annotated[Number, typer.Option(help="A step size; default is the one with the smallest bound.")] = None,
    c: Annotated[Number, typer.Option(help="The cap of radius capped; default 1/(2 beta).")] = None,
    clip: Annotated[Number, typer.Option(help="theta of radius clipped, in (0, 1); default 0.5.")] = None,
    quantity: Annotated[
        str | None, typer.Option(help="What to bound, where there is a choice: see above.", autocompletion=_names.quantities)
    ] = None,
    accuracy: Annotated[Number, typer.Option(help="What the bound should reach; asks what to change.")] = None,
    data: Annotated[
        str | None,
        typer.Option(help="digits: take what is not given from the data.", autocompletion=lambda: ["digits"]),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
) -> None:
    """Say what the bounds promise for a run, and what to change.

    The step size, the bound, its floor, the statements behind them, and with --accuracy what would reach it.

    Quantities: gap, mean-gap, squared-gradient, least-squared-gradient, perturbed-gap, squared-distance.
    """
    from sharpmin import theory

    from ._progress import heartbeat

    given: dict[str, Any] = {
        "beta": beta, "mu": mu, "sigma": sigma, "delta": delta, "distance": distance, "beta_component": beta_component,
    }  # fmt: skip
    if residual is not None:
        from ._schedules import numbers

        given["residual"] = numbers("--residual", residual, 3, "0,1,0.01")
    with heartbeat("plan"):
        if data is not None:
            given = _from_data(data, oracle, given)
        for name in ("beta", "delta"):
            if given[name] is None:
                raise ValueError(f"plan: --{name} is missing; give it, or --data digits to take it from the data")
        promised = theory.plan(
            setting=setting, oracle=oracle, radius=radius, rho=rho, steps=steps, lr=lr, c=c, clip=clip, quantity=quantity,
            accuracy=accuracy, **given,
        )  # fmt: skip
    if as_json:
        typer.echo(json.dumps(promised.record(), indent=2, allow_nan=False))
        return
    if data is not None:
        typer.echo(f"{data}: " + ", ".join(f"{name} {value:.4g}" for name, value in given.items() if value is not None))
    from ._console import Whole

    Whole().text(str(promised))
    typer.echo("Names such as t6 are statements: `sharpmin list theorems` has their titles.")


def _from_data(name: str, oracle: str, given: dict[str, Any]) -> dict[str, Any]:
    """The constants of a data set, for those not given; beta_component of m-SAM is a root mean square over batches."""
    from sharpmin import theory
    from sharpmin.theory._problems.softmax import SoftmaxRegression

    if name != "digits":
        raise ValueError(f"plan: no data {name!r}; there is only digits")
    f = theory.problems()["digits"]()
    if not isinstance(f, SoftmaxRegression):
        raise TypeError("digits is a softmax regression")
    start = 0 * f.minimizer
    found: dict[str, Any] = {"beta": f.beta, "mu": f.mu, "delta": float(f.gap(start[None])[0])}
    found["distance"] = float(f.norm(f.minimizer[None])[0])
    if oracle != "exact":
        found["beta_component"] = f.beta_batch
        if "residual" not in given:
            found["sigma"] = f.sigma
    return given | {key: value for key, value in found.items() if given[key] is None}
