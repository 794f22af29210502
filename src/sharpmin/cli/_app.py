"""The commands, as a Typer app; errors become one line on stderr, with an example to paste."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from sharpmin._version import __version__
from sharpmin.core.text import printable

from ._certify import certify
from ._check import check
from ._cite import cite
from ._diagnose import diagnose
from ._interrupt import INTERRUPTED, Interrupted
from ._list import list_all
from ._messages import EXAMPLES, example, in_options, usage
from ._plan import plan
from ._refute import refute
from ._reproduce import reproduce
from ._rho import rho
from ._simulate import simulate
from ._study import study

# Typer brings its own copy of click in some versions, click itself in others; the base of its usage errors is the same.
UsageError: type[Exception] = next(kind for kind in typer.BadParameter.__mro__ if kind.__name__ == "ClickException")

COMMANDS: dict[str, dict[str, Callable[..., None]]] = {
    "Training": {"check": check, "diagnose": diagnose, "rho": rho, "study": study},
    "Theory": {"simulate": simulate, "plan": plan, "certify": certify, "refute": refute, "reproduce": reproduce},
    "Reference": {"list": list_all, "cite": cite},
}


class Grouped(TyperGroup):
    """Help that shows the commands in groups, each with its whole summary."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """One section a group."""
        for title, names in COMMANDS.items():
            rows = [(name, self.commands[name].get_short_help_str(limit=10_000)) for name in names]
            with formatter.section(title):
                formatter.write_dl(rows)


class Explained(TyperCommand):
    """Help that ends with an example, in one line so that it can be pasted."""

    def format_epilog(self, ctx: Any, formatter: Any) -> None:
        """The example."""
        formatter.write(f"\nExample:\n  {EXAMPLES[ctx.info_name]}\n")


app = typer.Typer(
    cls=Grouped,
    context_settings={"help_option_names": ["-h", "--help"]},
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"sharpmin {__version__}")
        raise typer.Exit()


@app.callback()
def root(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")] = False,
) -> None:
    """Sharpness-aware minimization (SAM), and how far it converges.

    `sharpmin COMMAND -h` explains a command and has an example to paste.
    """


for functions in COMMANDS.values():
    for name, function in functions.items():
        app.command(name, cls=Explained)(function)


def run(arguments: list[str]) -> int:
    """Run a command; its exit code. Without arguments, the help."""
    try:
        code = app(arguments or ["--help"], prog_name="sharpmin", standalone_mode=False)
    except UsageError as error:
        return _refused(usage(error) + example(arguments))
    except BrokenPipeError:
        raise
    except (ValueError, TypeError) as error:
        text = in_options(str(error), _options(arguments))
        return _refused(text if "for example" in text or "sharpmin " in text else text + example(arguments))
    except OSError as error:
        return _refused(str(error))
    except ArithmeticError as error:
        return _refused(f"these numbers are too large or too small for floating point ({error})" + example(arguments))
    except Interrupted as error:
        sys.stderr.write(f"sharpmin: {error}\n")
        return INTERRUPTED
    except typer.Abort:
        raise KeyboardInterrupt from None
    except SystemExit as error:  # how typer answers a closed pipe, and ends completion
        if not error.code or "_SHARPMIN_COMPLETE" in os.environ:
            return int(error.code or 0)
        raise BrokenPipeError from None
    if code == INTERRUPTED:  # what typer makes of a Ctrl-C
        raise KeyboardInterrupt
    return int(code or 0)


def _options(arguments: list[str]) -> list[str]:
    """Those of the command; none where --set makes its names those of a problem or a constructor."""
    commands: dict[str, Any] = vars(typer.main.get_command(app))["commands"]
    command = next((commands[word] for word in arguments if word in commands), None)
    options = [] if command is None else [option for param in command.params for option in param.opts if option[:2] == "--"]
    return [] if "--set" in options else options


def _refused(text: str) -> int:
    """Say it in one line, in which nothing of what was given acts on the terminal; the exit code of bad use."""
    sys.stderr.write(f"sharpmin: {printable(' '.join(text.split()))}\n")
    return 2
