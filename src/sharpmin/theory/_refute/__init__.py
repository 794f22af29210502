"""Attacks on upper bounds."""
