"""An extension of griffe: examples in docstrings become blocks of code, wherever they stand."""

from __future__ import annotations

from typing import Any

from griffe import Extension, Object


class Doctests(Extension):
    """Sets fences around examples before mkdocstrings reads the docstring."""

    def on_object(self, *, obj: Object, **_: Any) -> None:
        """Change the docstring of one object."""
        if obj.docstring is not None:
            obj.docstring.value = fenced(obj.docstring.value)


def fenced(text: str) -> str:
    r"""The text with a fence around each run of lines from `>>>` to the next empty line.

    >>> fenced("One.\n\n>>> 1 + 1\n2")
    'One.\n\n```pycon\n>>> 1 + 1\n2\n```'
    """
    out: list[str] = []
    inside = ""
    for line in [*text.splitlines(), ""]:
        indent = line[: len(line) - len(line.lstrip())]
        if not inside and line.lstrip().startswith(">>> "):
            inside = f"{indent}```"
            out.append(f"{inside}pycon")
        elif inside and not line.strip():
            out.append(inside)
            inside = ""
        out.append(line)
    return "\n".join(out[:-1])
