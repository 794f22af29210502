"""Attempts to refute the constants that a problem claims, and the bounds that apply to it, compared with runs."""
