"""Optional dependencies, imported on first use, so that every module of sharpmin imports with only torch installed."""

from __future__ import annotations

import importlib
from typing import Any

from .errors import MissingExtraError


class _Optional:
    """A module that is imported when its first attribute is read."""

    def __init__(self, module: str, extra: str):
        self.__dict__.update(_module=module, _extra=extra)

    def __getattr__(self, name: str) -> Any:
        module, extra = self.__dict__["_module"], self.__dict__["_extra"]
        try:
            value = getattr(importlib.import_module(module), name)
        except ModuleNotFoundError as error:
            if error.name and module.split(".")[0] != error.name.split(".")[0]:
                raise  # another import failed: show its error
            if name.startswith("__"):  # read by `inspect` and doctest on any object
                raise AttributeError(name) from None
            raise MissingExtraError(module, extra) from None
        self.__dict__[name] = value
        return value


def optional(module: str, extra: str) -> Any:
    """A stand-in for `module` that imports it on first use.

    Args:
        module: the dotted name of the module.
        extra: the extra of sharpmin that installs it.

    Raises:
        MissingExtraError: when an attribute is read and the module is not installed.

    >>> optional("math", extra="lab").pi
    3.141592653589793
    """
    return _Optional(module, extra)
