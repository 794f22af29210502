"""Certificates: the exact worst case of a few steps, between a run that attains it and a bound proved in rationals."""
