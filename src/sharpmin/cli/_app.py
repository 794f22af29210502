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
from ._messages import EXAMPLES, VALUES, example, in_options, usage
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
    """A group of commands whose help lists them by topic, each with its full summary."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write one section per topic."""
        for title, names in COMMANDS.items():
            rows = [(name, self.commands[name].get_short_help_str(limit=10_000)) for name in names]
            with formatter.section(title):
                formatter.write_dl(rows)


class Explained(TyperCommand):
    """A command whose help ends with an example on one line, ready to paste."""

    def format_epilog(self, ctx: Any, formatter: Any) -> None:
        """Write the example."""
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
    """Run a command and return its exit code; without arguments, print the help."""
    try:
        code = app(arguments or ["--help"], prog_name="sharpmin", standalone_mode=False)
    except UsageError as error:
        return _refused(arguments, usage(error, arguments), pasted=True)
    except BrokenPipeError:
        raise
    except (ValueError, TypeError, OSError, ArithmeticError) as error:
        return _refused(arguments, _told(error, arguments), pasted=not isinstance(error, OSError))
    except Interrupted as error:
        sys.stderr.write(f"sharpmin: {error}\n")
        return INTERRUPTED
    except typer.Abort:
        raise KeyboardInterrupt from None
    except SystemExit as error:  # typer raises this for a closed pipe, and at the end of completion
        if not error.code or "_SHARPMIN_COMPLETE" in os.environ:
            return int(error.code or 0)
        raise BrokenPipeError from None
    if code == INTERRUPTED:  # typer turns Ctrl-C into this
        raise KeyboardInterrupt
    return int(code or 0)


def _told(error: Exception, arguments: list[str]) -> str:
    if isinstance(error, ArithmeticError):
        return f"these numbers are too large or too small for floating point ({error})"
    return str(error) if isinstance(error, OSError) else in_options(str(error), _options(arguments))


def _command(arguments: list[str]) -> str:
    """The command named in `arguments`; None if there is none."""
    names = [name for group in COMMANDS.values() for name in group]
    return next((word for word in arguments if word in names), "")


def _options(arguments: list[str]) -> list[str]:
    """The options of the command, without those that are also names of problem arguments."""
    name, commands = _command(arguments), vars(typer.main.get_command(app))["commands"]
    options = [option for param in commands[name].params for option in param.opts if option[:2] == "--"]
    return [option for option in options if name != "simulate" or option[2:] not in VALUES]


def _refused(arguments: list[str], text: str, *, pasted: bool) -> int:
    """Print the error in one line, with control characters of the input escaped; returns the exit code of bad use.

    Args:
        arguments: the command line.
        text: the message: what was given, and what is needed.
        pasted: whether to add an example if the text has none.
    """
    command = _command(arguments)
    head = f"{command}: " if command and not text.startswith((f"{command}:", f"{command} ")) else ""
    tail = f"; for example: {example(command, arguments)}" if pasted and "for example" not in text else ""
    sys.stderr.write(f"sharpmin: {printable(' '.join((head + text + tail).split()))}\n")
    return 2
