"""Error messages: what was given, what is needed, an example to paste."""

from __future__ import annotations

import re
from itertools import pairwise
from typing import Any

from ._names import nearest

EXAMPLES = {
    "check": "sharpmin check sharpmin:SAM --only resume",
    "diagnose": "sharpmin diagnose run.jsonl --html run.html",
    "rho": "sharpmin rho digits --noisy --grid 0.05,0.2,0.8",
    "study": "sharpmin study mnist-5k --seeds 10",
    "simulate": "sharpmin simulate quadratic --set curvatures=4,1 --lr 0.2 --rho 0.1 --steps 100 --x0 1",
    "plan": "sharpmin plan --data digits --rho 0.05 --steps 10000 --accuracy 0.1",
    "certify": "sharpmin certify sam --steps 1 --lr 0.9 --rho 2 --kappa 10",
    "refute": "sharpmin refute t1 --kappa 30 --budget 5000",
    "reproduce": "sharpmin reproduce --quick --only t1",
    "list": "sharpmin list problems",
    "cite": "sharpmin cite usam t1",
}
"""An example for every command; after an error, `simulate` has one for every problem."""

VALUES = {
    "beta": "1", "mu": "0.1", "rho": "0.5", "theta": "0.125", "p": "0.25", "d": "1", "s": "0.05", "lr": "0.2",
    "slope": "1", "h1": "1", "h2": "3", "curvatures": "4,1",
}  # fmt: skip
"""Example values for the arguments of problems."""


def example(command: str, arguments: list[str]) -> str:
    """A valid command line that resembles the one that failed."""
    return simulation(arguments) if command == "simulate" else EXAMPLES.get(command, "sharpmin --help")


def simulation(words: list[str] | tuple[str, ...] = ()) -> str:
    """A command that simulates the first problem named in `words`, or a quadratic.

    >>> simulation(["quadratic"])
    'sharpmin simulate quadratic --set curvatures=4,1 --lr 0.2 --rho 0.1 --steps 100 --x0 1'
    """
    from sharpmin.theory import problems

    name = next((word for word in words if word in problems()), "quadratic")
    given = "".join(f"--set {key}={VALUES[key]} " for key in needed(name))
    return f"sharpmin simulate {name} {given}--lr 0.2 --rho 0.1 --steps 100 --x0 1"


def needed(problem: str) -> list[str]:
    """The required arguments of a problem."""
    import inspect

    from sharpmin.theory import problems

    parameters = inspect.signature(problems()[problem]).parameters.values()
    return [p.name for p in parameters if p.default is p.empty]


def in_options(text: str, options: list[str]) -> str:
    """A message of the library with its keywords turned into options: `steps=0` becomes `--steps 0`.

    >>> in_options("plan: beta_component=-1; it needs sigma=, below 2/lr=4", ["--beta-component", "--sigma", "--lr"])
    'plan: --beta-component -1; it needs --sigma, below 2/lr=4'
    """
    for option in options:
        name = option[2:].replace("-", "_")
        text = re.sub(rf"(?<![\w/-]){name}=(?=[^\s,;:.)])", f"{option} ", text)
        text = re.sub(rf"(?<![\w/-]){name}=(?=[\s,;:.)]|$)", option, text)
    return text


def usage(error: Any, arguments: list[str]) -> str:
    """The message for an error that Typer found."""
    context, kind = getattr(error, "ctx", None), type(error).__name__
    text = str(error.format_message()).strip().rstrip(".")
    if context is None:
        return f"{text[:1].lower()}{text[1:]}"
    params = context.command.get_params(context)
    if kind == "MissingParameter":
        required = [_shown(param) for param in params if param.required]
        what = ", ".join(required) if len(required) > 1 else getattr(error.param, "help", "").rstrip(".")
        return f"{_shown(error.param)} is missing; needed: {what}"
    if kind == "NoSuchOption":
        options = [option for param in params for option in param.opts if option[:2] == "--"]
        return f"no option {error.option_name}; {nearest(error.option_name, options)}"
    if kind == "BadParameter" and error.param is not None:
        return _bad(error, arguments)
    if match := re.match("No such command '(.*?)'", text, flags=re.DOTALL):
        return f"no command {match[1]!r}; {nearest(match[1], context.command.commands)}"
    return f"{text[:1].lower()}{text[1:]}"


def _bad(error: Any, arguments: list[str]) -> str:
    """The message for a value of the wrong type, or out of range."""
    name, message = _shown(error.param), re.sub(", unable to parse.*", "", error.message.rstrip("."))
    given = [value for word, value in pairwise(arguments) if word == name]
    given += [word.partition("=")[2] for word in arguments if word.startswith(f"{name}=")]
    shown = f"{name} {given[-1]!r}" if given and "Input should" in message else name
    return shown + message.replace("Input should be", " must be") if "Input should be" in message else f"{shown}: {message}"


def _shown(param: Any) -> str:
    return str(param.opts[0] if param.opts[0].startswith("-") else param.name.upper())
