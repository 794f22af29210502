"""SAM on many lanes at once: a reference engine in NumPy and compiled ones, which tests compare with it."""
