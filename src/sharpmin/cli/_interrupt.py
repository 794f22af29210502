"""The exception of a command that Ctrl-C has stopped."""

from __future__ import annotations

INTERRUPTED = 130


class Interrupted(Exception):
    """Ctrl-C, raised after the command has saved its finished work; the message says what is kept."""
