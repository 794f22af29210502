"""Attempts to refute the constants that a problem claims, and what the statements then say of it."""
