"""The bounds of the statements for given constants, and what to change to reach an accuracy."""
