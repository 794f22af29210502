"""What a command says when Ctrl-C stops it."""

from __future__ import annotations

INTERRUPTED = 130


class Interrupted(Exception):
    """Ctrl-C, after a command has seen to what is finished; the message says what is kept."""
