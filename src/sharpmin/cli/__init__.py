"""The command line; `main` is the entry point. A command imports what it needs when it runs."""

from __future__ import annotations

import sys
from contextlib import redirect_stderr

from ._interrupt import INTERRUPTED
from ._streams import Deaf, require_streams, silence

BROKEN_PIPE = 141

_CLI = ("jinja2", "markupsafe", "rich", "typer")
"""Packages of the extra `cli`."""


def main(arguments: list[str] | None = None) -> int:
    """Run the command line and return its exit code.

    0: success. 1: a claim is refuted. 2: bad use. 130: Ctrl-C. 141: the output pipe is closed.
    """
    require_streams()
    with redirect_stderr(Deaf(sys.stderr)):
        return _main(sys.argv[1:] if arguments is None else arguments)


def _main(arguments: list[str]) -> int:
    try:
        from ._app import run

        code = run(arguments)
        sys.stdout.flush()
    except ImportError as error:  # typer, or a package that the command needs, is not installed
        sys.stderr.write(f"sharpmin: {_line(error)}\n")
        return 2
    except KeyboardInterrupt:  # also during the imports
        sys.stderr.write("sharpmin: interrupted; nothing was written\n")
        code = INTERRUPTED
    except BrokenPipeError:
        silence(sys.stdout)
        code = BROKEN_PIPE
    except OSError as error:  # the last flush fails on a full disk
        sys.stderr.write(f"sharpmin: the output could not be written: {error}\n")
        silence(sys.stdout)
        code = 2
    if code == INTERRUPTED:
        # CPython remembers an interrupt raised in an exec() inside an import and kills itself by it at exit, although it
        # was caught here; executing any code string clears that state.
        exec("0")
    return code


def _line(error: ImportError) -> str:
    from sharpmin.core.errors import MissingExtraError

    if isinstance(error, MissingExtraError) or error.name is None:
        return str(error)
    return str(MissingExtraError(error.name, "cli" if error.name.partition(".")[0] in _CLI else "lab"))
