"""Certificates: the exact worst case of a few steps, between a function that attains it and a bound proved in rationals."""
