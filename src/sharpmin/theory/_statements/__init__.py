"""Statements: how one is represented, to which situations it applies, and how it is compared with runs."""
