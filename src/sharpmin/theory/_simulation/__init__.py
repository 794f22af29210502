"""SAM on many lanes at once: the reference engine and the compiled ones, held equal by tests."""
