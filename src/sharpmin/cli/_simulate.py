"""`sharpmin simulate`: one problem, one method, a table of statistics, and the run as a file."""

from __future__ import annotations

import ast
import csv
import difflib
import json
import math
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    import xarray as xr

    from sharpmin.theory import Problem

WORDS = {
    "final_gap": "f(x_T) - f*",
    "final_gradient": "||grad f(x_T)||",
    "mean_square_gradient": "mean of ||grad f(x_t)||^2",
    "min_square_gradient": "min of ||grad f(x_t)||^2",
    "mean_perturbed_gap": "mean of f(y_t) - f*",
}


def simulate(
    problem: Annotated[str, typer.Argument(help="A problem, as `list problems` prints it.")],
    lr: Annotated[str, typer.Option(help="A number, numbers with commas (one a lane), or InverseTime(mu, shift).")],
    steps: Annotated[int, typer.Option(help="T.")],
    x0: Annotated[list[str], typer.Option(help="A start: numbers with commas, in one dimension one a lane; may be repeated.")],
    method: Annotated[str, typer.Option(help="gd, sgd, sam, usam, m-sam, n-sam, m-usam or n-usam.")] = "sam",
    rho: Annotated[
        str | None, typer.Option(help="A number, numbers with commas, or a schedule such as 'InverseSqrt(0.5)'.")
    ] = None,
    clip: Annotated[float | None, typer.Option(help="theta of the clipped difference, in (0, 1).")] = None,
    seeds: Annotated[int, typer.Option(help="How many seeds every start gets.", min=1)] = 1,
    settings: Annotated[list[str] | None, typer.Option("--set", help="key=value of the problem; may be repeated.")] = None,
    out: Annotated[Path | None, typer.Option(help="run.nc (netCDF, all of the run) or run.csv (one row a lane).")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="The statistics as JSON.")] = False,
) -> None:
    """Run SAM on a problem of the laboratory and print statistics over the lanes.

    Example: sharpmin simulate trap --set theta=0.125 --set beta=2 --set rho=0.5 --lr 0.25 --rho 0.5 --steps 400 --x0 0.2,-0.05
    """
    if out is not None:
        _writable(out)
    from sharpmin import theory

    from ._schedules import LR, RHO, number_or_schedule

    step, radius = number_or_schedule("--lr", lr, LR), None if rho is None else number_or_schedule("--rho", rho, RHO)
    f = build(problem, settings or [])
    starts = _starts(f, x0)
    count = len(starts)
    run = theory.simulate(
        f, method=method, lr=step, rho=radius, clip=clip, steps=steps,
        x0=[start for start in starts for _ in range(seeds)], seeds=list(range(seeds)) * count,
    )  # fmt: skip
    table = statistics(f, run)
    if out is not None:
        _save(out, run, table)
    summary = {name: _summary(values) for name, values in table.items()}
    if as_json:
        record = {"problem": problem, "method": method, "steps": steps, "lanes": count * seeds, "statistics": summary}
        typer.echo(json.dumps(record, indent=2, allow_nan=False))
    else:
        _print(f"{f.name}, {method}, {steps} steps, {count * seeds} lane{'s' * (count * seeds > 1)}", summary)


def build(name: str, settings: list[str]) -> Problem:
    """A problem from its name and `key=value` strings; values are Python literals, words are strings.

    Raises:
        ValueError: for an unknown name, or a setting that is no key=value.
        TypeError: for a missing or unknown argument.
    """
    from sharpmin import theory

    known = theory.problems()
    if name not in known:
        near = difflib.get_close_matches(name.lower(), known, cutoff=0.3) or list(known)
        raise ValueError(f"no problem {name!r}; nearest: {', '.join(near)}")
    arguments = {}
    for item in settings:
        key, equals, text = item.partition("=")
        if not equals or not key.isidentifier():
            raise ValueError(f"--set {item!r} must be key=value, such as beta=2")
        try:
            arguments[key] = ast.literal_eval(text)
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            arguments[key] = text
    return known[name](**arguments)


def statistics(f: Problem, run: xr.Dataset) -> dict[str, list[float]]:
    """Per statistic one number a lane."""
    x = run.x_final.values
    table = {"final_gap": f.gap(x), "final_gradient": f.norm(f.gradient(x))}
    table |= {name: run[name].values for name in WORDS if name in run}
    return {name: [float(v) for v in values] for name, values in table.items()}


def _starts(f: Problem, texts: list[str]) -> list[Any]:
    """Points; in several dimensions a single number is every coordinate."""
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


def _summary(values: list[float]) -> dict[str, float | None]:
    """Mean, its standard error, least and largest; None where a run diverged."""
    n, mean = len(values), math.fsum(values) / len(values) if all(map(math.isfinite, values)) else math.nan
    error = math.sqrt(math.fsum((v - mean) ** 2 for v in values) / (n - 1) / n) if n > 1 else 0.0
    row = {"mean": mean, "standard_error": error, "least": min(values), "largest": max(values)}
    return {name: v if math.isfinite(v) else None for name, v in row.items()}


def _print(title: str, summary: dict[str, dict[str, float | None]]) -> None:
    from rich.console import Console
    from rich.table import Table

    grid = Table(box=None, pad_edge=False, title=title, title_justify="left", header_style="bold")
    grid.add_column("statistic", no_wrap=True)
    for name in ("mean", "standard error", "least", "largest"):
        grid.add_column(name, justify="right", no_wrap=True)
    for name, row in summary.items():
        grid.add_row(WORDS[name], *("not finite" if v is None else f"{v:.6g}" for v in row.values()))
    Console().print(grid)


def _writable(out: Path) -> None:
    """Refuse before anything runs."""
    if out.suffix not in (".nc", ".csv"):
        raise ValueError(f"--out {out} must end in .nc or .csv")
    if not out.parent.is_dir() or out.is_dir() or not os.access(out.parent, os.W_OK):
        raise OSError(f"cannot write to --out {out}; choose a file in a folder that exists and can be written")


def _save(out: Path, run: xr.Dataset, table: dict[str, list[float]]) -> None:
    """In one step, so that a reader never sees half a file."""
    draft = out.with_name(f".{out.name}.{os.getpid()}")
    try:
        if out.suffix == ".nc":
            run.to_netcdf(draft, engine="scipy")
        else:
            with draft.open("w", newline="", encoding="utf-8") as file:
                writer = csv.writer(file)
                x = run.x_final.values.reshape(len(run.x_final), -1)
                names = ["x_final"] if run.x_final.ndim == 1 else [f"x_final_{i}" for i in range(x.shape[1])]
                writer.writerow(["lane", *names, *table])
                for lane, row in enumerate(zip(x.tolist(), *table.values(), strict=True)):
                    writer.writerow([lane, *row[0], *row[1:]])
        os.replace(draft, out)
    finally:
        draft.unlink(missing_ok=True)
