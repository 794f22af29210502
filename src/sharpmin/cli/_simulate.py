"""`sharpmin simulate`: run one method on one problem; prints a table of statistics and can save the run to a file."""

from __future__ import annotations

import ast
import csv
import inspect
import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from . import _names
from ._files import replaced, writable
from ._interrupt import Interrupted
from ._messages import needed, simulation

if TYPE_CHECKING:
    import xarray as xr

    from sharpmin.theory import Problem
    from sharpmin.theory._problems.problem import Array

WORDS = {
    "final_gap": "f(x_T) - f*",
    "final_gradient": "||grad f(x_T)||",
    "mean_square_gradient": "mean of ||grad f(x_t)||^2",
    "min_square_gradient": "min of ||grad f(x_t)||^2",
    "mean_perturbed_gap": "mean of f(y_t) - f*",
}


def simulate(
    problem: Annotated[
        str, typer.Argument(help="A problem, as `sharpmin list problems` prints it.", autocompletion=_names.problems)
    ],
    lr: Annotated[
        str, typer.Option(help="The step size: a number, numbers with commas (one a lane), or InverseTime(mu, shift).")
    ],
    steps: Annotated[int, typer.Option(help="How many steps, T.")],
    x0: Annotated[
        list[str],
        typer.Option(
            help="A start: its coordinates with commas, or one number for all; in one dimension one start a number; "
            "may be repeated."
        ),
    ],
    method: Annotated[
        str, typer.Option(help="gd, sgd, sam, usam, m-sam, n-sam, m-usam or n-usam.", autocompletion=_names.methods)
    ] = "sam",
    rho: Annotated[
        str | None,
        typer.Option(help="The radius: a number, numbers with commas (one a lane), or a schedule such as 'InverseSqrt(0.5)'."),
    ] = None,
    clip: Annotated[float | None, typer.Option(help="theta of the clipped difference, in (0, 1).")] = None,
    seeds: Annotated[int, typer.Option(help="How many seeds every start is run with.", min=1)] = 1,
    settings: Annotated[list[str] | None, typer.Option("--set", help="KEY=VALUE of the problem; may be repeated.")] = None,
    out: Annotated[
        str | None, typer.Option(help="A file for the run: run.nc (netCDF, all of it) or run.csv (one row a lane).")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="The statistics as JSON.")] = False,
) -> None:
    """Run SAM on a problem of the laboratory; print statistics.

    A lane is one run: of one start with one seed. The statistics are over the lanes.
    """
    target = None if out is None else writable("--out", out, (".nc", ".csv"))
    import numpy as np

    from sharpmin import theory
    from sharpmin.theory._simulation.simulate import refuse_lanes

    from ._progress import heartbeat
    from ._schedules import LR, RHO, number_or_schedule

    step, radius = number_or_schedule("--lr", lr, LR), None if rho is None else number_or_schedule("--rho", rho, RHO)
    f = build(problem, settings or [])
    starts = _starts(f, x0)
    refuse_lanes(f, method, steps, len(starts) * seeds)
    with heartbeat("simulate"):
        run = theory.simulate(
            f, method=method, lr=step, rho=radius, clip=clip, steps=steps,
            x0=np.repeat(starts, seeds, axis=0), seeds=np.tile(np.arange(seeds), len(starts)),
        )  # fmt: skip
    table = statistics(f, run)
    if target is not None:
        _save(target, run, table)
    try:
        _show(problem, method, steps, table, as_json=as_json)
    except KeyboardInterrupt:
        raise Interrupted(f"interrupted; {'nothing was written' if target is None else f'the run is in {target}'}") from None


def build(name: str, settings: list[str]) -> Problem:
    """A problem from its name and `key=value` strings; a value is a Python literal, or else a string.

    Raises:
        ValueError: for an unknown name, or a setting that is not key=value.
        TypeError: for a missing or unknown argument.
    """
    from sharpmin import theory

    known = theory.problems()
    if name not in known:
        raise ValueError(f"simulate: no problem {name!r}; {_names.nearest(name, known)}")
    arguments: dict[str, Any] = {}
    for item in settings:
        key, equals, text = item.partition("=")
        if not equals or not key.isidentifier():
            raise ValueError(f"--set {item!r} must be KEY=VALUE")
        if key in arguments:
            raise ValueError(f"--set {key}= is given more than once; keep one of them")
        try:
            arguments[key] = ast.literal_eval(text)
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            arguments[key] = text
    return known[name](**_complete(name, arguments))


def _complete(name: str, arguments: dict[str, Any]) -> dict[str, Any]:
    """The arguments, after checks that none is missing or unknown."""
    from sharpmin import theory

    takes = list(inspect.signature(theory.problems()[name]).parameters)
    for key in arguments:
        if key not in takes:
            raise ValueError(f"simulate {name}: --set {key}= is unknown; {_names.nearest(key, takes, 'it takes nothing')}")
    missing = [key for key in needed(name) if key not in arguments]
    if missing:
        names, them = ", ".join(missing), ("is missing; give it" if len(missing) == 1 else "are missing; give them")
        raise ValueError(f"simulate {name}: {names} {them} with --set; for example: {simulation([name])}")
    return arguments


def statistics(f: Problem, run: xr.Dataset) -> dict[str, Array]:
    """One number per lane for every statistic; inf or nan where the run diverged."""
    import numpy as np

    x = run.x_final.values
    with np.errstate(over="ignore", invalid="ignore"):
        table = {"final_gap": f.gap(x), "final_gradient": f.norm(f.gradient(x))}
    return table | {name: run[name].values for name in WORDS if name in run}


def _starts(f: Problem, texts: list[str]) -> list[Any]:
    """The starts; in several dimensions a single number is used for every coordinate."""
    from ._schedules import number_or_schedule

    starts: list[Any] = []
    for text in texts:
        value = number_or_schedule("--x0", text, {})
        numbers = list(value) if isinstance(value, tuple) else [value]
        if f.dim == 1:
            starts += numbers
        elif len(numbers) in (1, f.dim):
            starts.append(numbers if len(numbers) == f.dim else numbers * f.dim)
        else:
            raise ValueError(f"--x0 {text!r} has {len(numbers)} numbers; {f.name} needs {f.dim}, or one for every coordinate")
    return starts


def _summary(values: Array) -> dict[str, float | None]:
    """The mean, its standard error, minimum and maximum; None if a run diverged, and for the error of a single run."""
    import numpy as np

    with np.errstate(over="ignore", invalid="ignore"):
        size = np.abs(values).max() or 1.0  # scaled, since the squares may overflow or underflow
        shares = values / size
        error = size * shares.std(ddof=1) / math.sqrt(len(values)) if len(values) > 1 else math.nan
    row = {"mean": size * shares.mean(), "standard_error": error, "least": values.min(), "largest": values.max()}
    return {name: float(v) if math.isfinite(v) else None for name, v in row.items()}


def _show(problem: str, method: str, steps: int, table: dict[str, Array], *, as_json: bool) -> None:
    import numpy as np

    summary = {name: _summary(values) for name, values in table.items()}
    lanes = len(table["final_gap"])
    diverged = lanes - int(np.isfinite(np.stack(list(table.values()))).all(axis=0).sum())
    if as_json:
        record = {
            "problem": problem,
            "method": method,
            "steps": steps,
            "lanes": lanes,
            "diverged": diverged,
            "statistics": summary,
        }
        typer.echo(json.dumps(record, indent=2, allow_nan=False))
        return
    title = f"{problem}, {method}, {steps} steps, {lanes} lane{'s' * (lanes > 1)}"
    _print(title + (f", {diverged} diverged" if diverged else ""), summary, one=lanes == 1)


def _print(title: str, summary: dict[str, dict[str, float | None]], *, one: bool) -> None:
    from rich.table import Table

    from ._console import Whole

    grid = Table(box=None, pad_edge=False, title=title, title_justify="left", header_style="bold")
    grid.add_column("statistic", no_wrap=True)
    for name in ("mean", "standard error", "least", "largest"):
        grid.add_column(name, justify="right", no_wrap=True)
    for name, row in summary.items():
        cells = {key: "not finite" if v is None else f"{v:.5g}" for key, v in row.items()}
        if one:
            cells["standard_error"] = "-"
        grid.add_row(WORDS[name], *cells.values())
    Whole().print(grid)


def _save(out: Path, run: xr.Dataset, table: dict[str, Array]) -> None:
    with replaced(out) as draft:
        if out.suffix == ".nc":
            run.to_netcdf(draft, engine="scipy")
            return
        with draft.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            x = run.x_final.values.reshape(len(run.x_final), -1)
            names = ["x_final"] if run.x_final.ndim == 1 else [f"x_final_{i}" for i in range(x.shape[1])]
            writer.writerow(["lane", *names, *table])
            for lane, row in enumerate(zip(x.tolist(), *(v.tolist() for v in table.values()), strict=True)):
                writer.writerow([lane, *row[0], *row[1:]])
