"""The command line; `main` is the entry point, and everything heavy is imported when a command runs."""

from __future__ import annotations

import sys


def main(arguments: list[str] | None = None) -> int:
    """Run the command line and return its exit code: 0, 1 if a claim is refuted, 2 for bad use, 130 after Ctrl-C."""
    try:
        from ._app import run

        return run(sys.argv[1:] if arguments is None else arguments)
    except ImportError as error:  # typer, or what a command needs, is not installed
        sys.stderr.write(f"sharpmin: {_line(error)}\n")
        return 2


def _line(error: ImportError) -> str:
    from sharpmin.core.errors import MissingExtraError

    if isinstance(error, MissingExtraError) or error.name is None:
        return str(error)
    return str(MissingExtraError(error.name, "lab"))
