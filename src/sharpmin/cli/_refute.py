"""`sharpmin refute`: attack an upper bound, the user's or a registered one, until the budget is spent."""

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

from . import _names
from ._files import replace, writable
from ._interrupt import Interrupted
from ._runs import Scheduler, Workers, complete, place

if TYPE_CHECKING:
    from sharpmin.theory import Theorem

Range = str | None


def refute(
    bound: Annotated[
        str,
        typer.Argument(
            help="FILE.py or FILE.py:function, or a statement, as `sharpmin list theorems` prints it.",
            autocompletion=_names.statements,
        ),
    ],
    method: Annotated[
        str | None,
        typer.Option(help="gd, sgd, sam, usam, m-sam, n-sam, m-usam or n-usam.", autocompletion=_names.methods),
    ] = None,
    assumptions: Annotated[
        str | None, typer.Option(help="strongly-convex, convex, pl or nonconvex.", autocompletion=_names.settings)
    ] = None,
    quantity: Annotated[str | None, typer.Option(help="What is bounded: see above.", autocompletion=_names.quantities)] = None,
    radius: Annotated[
        str | None, typer.Option(help="constant (default), inverse-sqrt, sqrt-lr, capped, clipped or switched.")
    ] = None,
    kappa: Annotated[Range, typer.Option(help="beta/mu: a number, or low,high.")] = None,
    lr_beta: Annotated[Range, typer.Option(help="lr times beta: a number, or low,high.")] = None,
    rho: Annotated[Range, typer.Option(help="The radius: a number, or low,high.")] = None,
    steps: Annotated[Range, typer.Option(help="How many steps, T: a number, or low,high.")] = None,
    beta: Annotated[Range, typer.Option(help="Smoothness: a number, or low,high.")] = None,
    budget: Annotated[int, typer.Option(help="How many runs evolution may evaluate.", min=0)] = 20_000,
    seed: Annotated[int, typer.Option(help="Seed of evolution.", min=0)] = 0,
    workers: Workers = None,
    scheduler: Scheduler = None,
    out: Annotated[
        str | None, typer.Option(help="A file for Python code that rebuilds the worst run, such as worst.py.")
    ] = None,
    store: Annotated[
        str | None, typer.Option(help="A file for finished parts, such as hunt.jsonl; the same command goes on from there.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="The result as JSON.")] = False,
) -> None:
    """Look for a function that exceeds an upper bound.

    It tries the shipped instances, evolution, and all sample paths of short runs. A bound of your own is a Python function
    of constants by name, such as def bound(*, beta, mu, rho, steps, delta, lr), which raises ValueError where it does not
    apply; --method, --assumptions and --quantity say for which runs it is claimed. The file is executed, so attack only files
    that you trust.

    Quantities: gap, mean-gap, squared-gradient, least-squared-gradient, perturbed-gap, squared-distance.

    Exit code 0: not refuted. 1: refuted. 2: bad use. 130: Ctrl-C; with --store, what is finished stays.
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
        from ._console import Whole

        Whole().text(str(result))
        if target is not None and result.worst is not None:
            typer.echo(f"See {target}")
    raise typer.Exit(int(result.refuted))


def _attack(bound: Any, where: Any, kept: Path | None, *, budget: int, seed: int, claim: dict[str, Any]) -> Any:
    """Compute the missing parts, with progress; the result is read from all finished parts."""
    import tempfile
    import time

    from sharpmin import theory
    from sharpmin.runs import Store
    from sharpmin.theory._refute.hunt import run
    from sharpmin.theory._refute.refute import begin, uses_torch

    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "hunt.jsonl" if kept is None else kept
        tasks = begin(bound, budget=budget, seed=seed, **claim)
        before, start = sum(row["evaluations"] for row in Store(file).known(tasks).values()), time.perf_counter()
        try:
            complete("refute", run, tasks, Store(file), where, unit="parts", uses_torch=uses_torch())
        except Interrupted:
            if kept is not None:
                raise
            raise Interrupted("interrupted; nothing was kept, which --store hunt.jsonl would do") from None
        result = theory.refute(bound, budget=budget, seed=seed, store=file, **claim)
        return replace_in(result, computed=result.evaluations - before, seconds=time.perf_counter() - start)


def loaded(name: str) -> Callable[..., Any] | Theorem:
    """A statement's id, or a function from a file, importable by workers.

    Raises:
        ValueError: if there is no such statement, file or function, or the file fails.
    """
    from sharpmin import theory

    path, suffix, function = name.partition(".py")
    if not suffix or (function and not function.startswith(":")):
        known = theory.theorems()
        if name not in known:
            near = _names.nearest(name, known, otherwise="sharpmin list theorems names the statements")
            raise ValueError(f"refute: {name!r} is neither a statement nor FILE.py:function; {near}")
        return known[name]
    file = Path(path + ".py")
    if not file.is_file():
        raise ValueError(f"refute: there is no file {file}; give a Python file with a function that returns the bound")
    module = _module(file)
    if function:
        found = getattr(module, function[1:], None)
        if not callable(found):
            own = ", ".join(_functions(module)) or "none"
            raise ValueError(f"refute: {file} has no function {function[1:]!r}; it has {own}")
        return found  # type: ignore[no-any-return]
    functions = _functions(module)
    if len(functions) != 1:
        which = f"; say which one; for example: {file}:{next(iter(functions))}" if functions else ""
        raise ValueError(f"refute: {file} has {len(functions)} functions{which}")
    return next(iter(functions.values()))


def _functions(module: ModuleType) -> dict[str, Callable[..., Any]]:
    """The functions that the file defines."""
    return {k: v for k, v in vars(module).items() if callable(v) and getattr(v, "__module__", "") == module.__name__}


def _module(file: Path) -> ModuleType:
    """The file as a module; its folder is put first on sys.path, so that spawned workers can import it by name."""
    name = file.stem
    if not name.isidentifier() or (name not in sys.modules and _taken(name, file)):
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


def _taken(name: str, file: Path) -> bool:
    """Whether an import of this name would find another file."""
    found = importlib.util.find_spec(name)
    return found is not None and (found.origin is None or Path(found.origin).resolve() != file.resolve())


def _range(name: str, text: str) -> float | tuple[float, ...]:
    """A number, or a pair from "low,high"."""
    option = f"--{name.replace('_', '-')}"
    try:
        numbers = tuple(float(part) for part in text.split(","))
    except ValueError:
        raise ValueError(f"{option} {text!r} must be a number, or low,high; for example: {option} 1,100") from None
    return numbers[0] if len(numbers) == 1 else numbers
