"""`sharpmin refute`: an upper bound of one's own, or a shipped one, attacked until it falls or the budget is spent."""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Callable
from dataclasses import replace as replace_in
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ._files import replace, writable
from ._interrupt import Interrupted
from ._runs import Scheduler, Workers, complete, place

if TYPE_CHECKING:
    from sharpmin.theory import Theorem

Range = str | None


def refute(
    bound: Annotated[str, typer.Argument(help="FILE.py or FILE.py:function, or a statement, as `list theorems` prints it.")],
    method: Annotated[str | None, typer.Option(help="gd, sgd, sam, usam, m-sam, n-sam, m-usam or n-usam.")] = None,
    assumptions: Annotated[str | None, typer.Option(help="strongly-convex, convex, pl or nonconvex.")] = None,
    quantity: Annotated[str | None, typer.Option(help="What is bounded: see below.")] = None,
    radius: Annotated[
        str | None, typer.Option(help="constant (default), inverse-sqrt, sqrt-lr, capped, clipped or switched.")
    ] = None,
    kappa: Annotated[Range, typer.Option(help="beta/mu: a number, or low,high.")] = None,
    lr_beta: Annotated[Range, typer.Option(help="lr times beta: a number, or low,high.")] = None,
    rho: Annotated[Range, typer.Option(help="The radius: a number, or low,high.")] = None,
    steps: Annotated[Range, typer.Option(help="T: a number, or low,high.")] = None,
    beta: Annotated[Range, typer.Option(help="Smoothness: a number, or low,high.")] = None,
    budget: Annotated[int, typer.Option(help="How many runs evolution may evaluate.", min=0)] = 20_000,
    seed: Annotated[int, typer.Option(help="Of evolution.", min=0)] = 0,
    workers: Workers = None,
    scheduler: Scheduler = None,
    out: Annotated[str | None, typer.Option(help="worst.py: source that rebuilds the worst run.")] = None,
    store: Annotated[str | None, typer.Option(help="hunt.jsonl: finished parts; the same command goes on from there.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="The result as JSON.")] = False,
) -> None:
    """Look for a function that exceeds an upper bound: shipped instances, evolution, and all sample paths of short runs.

    The function takes constants by name, such as def bound(*, beta, mu, rho, steps, delta, lr), and raises ValueError where
    it does not speak. Quantities: gap, mean-gap, squared-gradient, least-squared-gradient, perturbed-gap, squared-distance.
    A file is run, so attack only files that you trust.

    Exit code 0: not refuted. 1: refuted. 2: bad use. 130: Ctrl-C; with --store, what is finished stays.

    Example: sharpmin refute t1 --kappa 30 --budget 5000
    """
    where = place(workers, scheduler)
    target = None if out is None else writable("--out", out, (".py",))
    kept = None if store is None else writable("--store", store, (".jsonl",))
    given = {"kappa": kappa, "lr_beta": lr_beta, "rho": rho, "steps": steps, "beta": beta}
    ranges = {name: _range(name, text) for name, text in given.items() if text is not None}
    result = _attack(
        loaded(bound), where, kept, budget=budget, seed=seed,
        claim={"method": method, "assumptions": assumptions, "quantity": quantity, "radius": radius, **ranges},
    )  # fmt: skip
    if target is not None and result.worst is not None:
        replace(target, result.code())
    if as_json:
        typer.echo(json.dumps(result.record(), indent=2, allow_nan=False))
    else:
        typer.echo(str(result))
        if target is not None and result.worst is not None:
            typer.echo(f"See {target}")
    raise typer.Exit(int(result.refuted))


def _attack(bound: Any, where: Any, kept: Path | None, *, budget: int, seed: int, claim: dict[str, Any]) -> Any:
    """Compute the missing parts, with progress; then read the result from the finished ones."""
    import tempfile
    import time

    from sharpmin import theory
    from sharpmin.runs import Store
    from sharpmin.theory._refute.hunt import run
    from sharpmin.theory._refute.refute import begin

    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "hunt.jsonl" if kept is None else kept
        tasks = begin(bound, budget=budget, seed=seed, **claim)
        before, start = sum(row["evaluations"] for row in Store(file).known(tasks).values()), time.perf_counter()
        try:
            complete("refute", run, tasks, Store(file), where, unit="parts")
        except Interrupted:
            if kept is not None:
                raise
            raise Interrupted("interrupted; nothing was kept, which --store hunt.jsonl would do") from None
        result = theory.refute(bound, budget=budget, seed=seed, store=file, **claim)
        return replace_in(result, computed=result.evaluations - before, seconds=time.perf_counter() - start)


def loaded(name: str) -> Callable[..., Any] | Theorem:
    """A statement, or a function of a file, which workers can import.

    Raises:
        ValueError: if there is no such statement, file or function, or the file fails.
    """
    from sharpmin import theory

    path, suffix, function = name.partition(".py")
    if not suffix or (function and not function.startswith(":")):
        known = theory.theorems()
        if name not in known:
            raise ValueError(f"{name!r} is neither a statement (see `sharpmin list theorems`) nor FILE.py:function")
        return known[name]
    file = Path(path + ".py")
    if not file.is_file():
        raise ValueError(f"there is no file {file}")
    module = _module(file)
    if function:
        found = getattr(module, function[1:], None)
        if not callable(found):
            raise ValueError(f"{file} has no function {function[1:]!r}")
        return found  # type: ignore[no-any-return]
    own = [v for v in vars(module).values() if callable(v) and getattr(v, "__module__", "") == module.__name__]
    if len(own) != 1:
        raise ValueError(f"{file} has {len(own)} functions; say which one: {file}:function")
    return own[0]  # type: ignore[no-any-return]


def _module(file: Path) -> ModuleType:
    """The file as a module; its folder leads sys.path, so that spawned workers find it by its name."""
    name = file.stem
    if not name.isidentifier() or (name not in sys.modules and importlib.util.find_spec(name) is not None):
        raise ValueError(f"{file}: another module is called {name!r}; give the file a name of its own, such as conjecture.py")
    sys.path.insert(0, str(file.resolve().parent))
    try:
        spec = importlib.util.spec_from_file_location(name, file)
        if spec is None or spec.loader is None:
            raise ValueError(f"{file} is no Python file")
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        spec.loader.exec_module(module)
    except Exception as error:
        raise ValueError(f"{file} fails: {type(error).__name__}: {error}") from error
    return module


def _range(name: str, text: str) -> float | tuple[float, ...]:
    """A number, or low,high."""
    option = f"--{name.replace('_', '-')}"
    try:
        numbers = tuple(float(part) for part in text.split(","))
    except ValueError:
        raise ValueError(f"{option} {text!r} must be a number, or low,high, such as 1,100") from None
    return numbers[0] if len(numbers) == 1 else numbers
