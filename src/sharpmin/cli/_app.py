"""The commands, as a Typer app; errors become one line on stderr."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from sharpmin import __version__
from sharpmin.core.text import printable

from ._check import check
from ._cite import cite
from ._diagnose import diagnose
from ._interrupt import INTERRUPTED, Interrupted
from ._list import list_all
from ._plan import plan
from ._refute import refute
from ._reproduce import reproduce as run_reproduce
from ._rho import rho
from ._simulate import simulate
from ._study import study

# Typer brings its own copy of click in some versions, click itself in others; the base of its usage errors is the same.
UsageError: type[Exception] = next(kind for kind in typer.BadParameter.__mro__ if kind.__name__ == "ClickException")

app = typer.Typer(add_completion=False, no_args_is_help=True, rich_markup_mode=None, pretty_exceptions_enable=False)


@app.callback()
def root() -> None:
    """sharpmin: sharpness-aware minimization, and how far it converges."""


@app.command()
def version() -> None:
    """Print the version."""
    typer.echo(__version__)


@app.command()
def reproduce(
    out: Annotated[Path, typer.Option(help="Where verdicts.json and report.html go.")] = Path("out"),
    quick: Annotated[bool, typer.Option("--quick", help="Fewer functions, seeds and steps.")] = False,
    only: Annotated[list[str] | None, typer.Option(help="Only this statement; may be repeated.")] = None,
    tex: Annotated[Path | None, typer.Option(help="Also write tables, figures and references as LaTeX to this folder.")] = None,
    workers: Annotated[
        int | None, typer.Option(help="Processes on this machine; by default 2, with --only 1.", min=1, max=1024)
    ] = None,
) -> None:
    """Confront every claim P1 to P7 with running code.

    Exit code 0: all hold. 1: a claim is refuted. 2: bad use. 130: Ctrl-C; what is finished stays. `sharpmin list
    theorems` names the statements.
    """
    raise typer.Exit(run_reproduce(out, quick=quick, only=only or [], tex=tex, workers=workers))


app.command("check")(check)
app.command("simulate")(simulate)
app.command("plan")(plan)
app.command("refute")(refute)
app.command("diagnose")(diagnose)
app.command("list")(list_all)
app.command("cite")(cite)
app.command("study")(study)
app.command("rho")(rho)


def run(arguments: list[str]) -> int:
    """Run a command; its exit code."""
    try:
        code = app(arguments, prog_name="sharpmin", standalone_mode=False)
    except UsageError as error:
        text = error.format_message() if hasattr(error, "format_message") else str(error)
        return _refused(text)
    except BrokenPipeError:
        raise
    except (ValueError, TypeError, OSError) as error:
        return _refused(str(error))
    except ArithmeticError as error:
        return _refused(f"these numbers are too large or too small for floating point ({error})")
    except Interrupted as error:
        sys.stderr.write(f"sharpmin: {error}\n")
        return INTERRUPTED
    except typer.Abort:
        raise KeyboardInterrupt from None
    except SystemExit:  # how typer answers a closed pipe
        raise BrokenPipeError from None
    if code == INTERRUPTED:  # what typer makes of a Ctrl-C
        raise KeyboardInterrupt
    return int(code or 0)


def _refused(text: str) -> int:
    """Say it in one line, in which nothing of what was given acts on the terminal; the exit code of bad use."""
    sys.stderr.write(f"sharpmin: {printable(' '.join(text.split()))}\n")
    return 2
