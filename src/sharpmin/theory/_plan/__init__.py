"""The statements turned around: what they promise for given constants, and what to change for a wanted accuracy."""
